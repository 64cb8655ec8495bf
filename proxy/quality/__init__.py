"""`bestserve quality`: prompts with checkable answers, asked of a backend under each budget, and what the answers were worth."""
