"""How long answers are by task and model, from statistics of published answers. Characters become tokens by CHARS_PER_TOKEN.

Facts · Auto-J's test set has two chat models' answers to 24 prompts in each of 58 scenarios (GAIR-NLP/auto-j@2ae17a3
data/test/testdata_pairwise.jsonl): quantiles of their lengths. AlpacaEval 2 has whole answers of 21 models to the same 805 open prompts
(tatsu-lab/alpaca_eval@cd543a1): how talkative one is against the others. Vectara asked for summaries of the same articles
(vectara/hallucination-leaderboard@318453a): words by model.

Plan · A task's median is the geometric mean of its scenarios' medians; its sigma joins the mean spread inside the scenarios (quartiles)
with that between them. A model that AlpacaEval has, or whose nearest sibling it has, is as much longer or shorter as its median there
is than the middle model's. Summaries take Vectara's mean length, as if it were the median, where the model is there.
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

from bestserve.profiles import TASKS, Answers
from measured import read
from shapes import Model

AUTOJ = "GAIR-NLP/auto-j/data/test/testdata_pairwise.jsonl@2ae17a3"
ALPACA = "tatsu-lab/alpaca_eval/docs/data_AlpacaEval_2@cd543a1"
VECTARA = "vectara/hallucination-leaderboard/README.md@318453a"
INFERENCE_BENCH = "ree2raz/inference-bench/results/summary.jsonl@6219100"

CHARS_PER_TOKEN = {"code": 3.5, "math": 3.1}
"""Measured with SmolLM2's tokenizer on 5,769 English prompts: code 3.5, mathematics 3.1, prose 4.1 to 4.5. Qwen's and Llama's larger
vocabularies make some 5 % fewer tokens."""
CHARS_PER_TOKEN_OF_PROSE = 4.3
TOKENS_PER_WORD = 1.35

SCENARIOS = {
    "code": (
        "code_generation",
        "code_correction_rewriting",
        "code_simplification",
        "code_to_code_translation",
        "explaining_code",
        "data_analysis",
    ),
    "math": ("math_reasoning", "solving_exam_question_with_math"),
    "qa": (
        "open_question",
        "verifying_fact",
        "explaining_general",
        "asking_how_to_question",
        "solving_exam_question_without_math",
        "reading_comprehension",
        "analyzing_general",
    ),
    "extract": ("information_extraction", "keywords_extraction"),
    "summ": ("post_summarization", "text_summarization", "note_summarization"),
    "rewrite": ("instructional_rewriting", "language_polishing", "paraphrasing", "text_correction", "text_simplification"),
    "translate": ("text_to_text_translation",),
    "write": (
        "creative_writing",
        "functional_writing",
        "writing_email",
        "writing_blog_post",
        "writing_social_media_post",
        "writing_product_description",
        "writing_personal_essay",
        "writing_news_article",
        "writing_song_lyrics",
        "writing_advertisement",
    ),
    "classify": ("classification_identification", "topic_modeling", "ranking"),
    "chat": ("chitchat", "seeking_advice", "recommendation", "roleplay", "brainstorming", "value_judgement", "planning"),
}

SIBLINGS = {  # by (family, least billions of parameters): the model of AlpacaEval that stands for it
    "qwen3": ((0, "Qwen2-72B-Instruct"),),
    "qwen2.5": ((0, "Qwen2-72B-Instruct"),),
    "llama3": ((40, "Meta-Llama-3.1-70B-Instruct-Turbo"), (0, "Meta-Llama-3.1-8B-Instruct-Turbo")),
}
ITSELF = ("Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct")


@dataclass(frozen=True, slots=True)
class Sourced:
    answers: Answers
    source: str
    how: str


class Lengths:
    def __init__(self, data: Path) -> None:
        quality = data / "quality"
        self._scenarios = {row["scenario"]: row for row in read(quality / "response_length_by_scenario_autoj.csv")}
        self._alpaca = {row["model"]: float(row["p50"]) for row in read(quality / "alpacaeval2_output_lengths_by_model.csv")}
        self._words = {
            row["model"]: float(row["score"])
            for row in read(quality / "model_quality.csv")
            if row["benchmark"] == "Vectara summary length words (README 2025-06)"
        }
        self._thoughts = [row for row in read(data / "latency" / "inference_bench_summary.csv") if row["engine"] == "qwen3_vllm"]

    def of(self, model: Model) -> dict[str, Sourced]:
        """Task -> how long this model's answers are, over TASKS."""
        talk, whose = self._talkativeness(model)
        found = {task: self._of_task(task, talk, whose) for task in TASKS}
        words = self._words.get(model.hub.partition("/")[2])
        if words is not None:
            sigma = found["summ"].answers.sigma
            source = f"{VECTARA}, {words:g} words a summary; sigma: {AUTOJ}"
            found["summ"] = Sourced(Answers(words * TOKENS_PER_WORD, sigma), source, "interpolated")
        return found

    def thinking(self, model: Model) -> dict[str, Sourced]:
        """Qwen3-8B alone was counted: the means of a few dozen problems of several steps; the spread is assumed."""
        if model.hub != "Qwen/Qwen3-8B":
            return {}
        mean = statistics.fmean(float(row["output_tokens_mean"]) for row in self._thoughts)
        source = f"{INFERENCE_BENCH}, reasoning problems, mean tokens; sigma assumed"
        return {"math": Sourced(Answers(mean, 0.5), source, "interpolated")}

    def _talkativeness(self, model: Model) -> tuple[float, str]:
        """How much longer this model's answers are than the middle model's, and who says so."""
        siblings = SIBLINGS.get(model.family)
        if siblings is None:
            return 1.0, ""
        name = next(name for least, name in siblings if model.params_b >= least)
        whose = "its own" if model.hub.partition("/")[2] in ITSELF else f"{name}'s, the nearest there"
        return self._alpaca[name] / statistics.median(self._alpaca.values()), f"; {ALPACA}, {whose}"

    def _of_task(self, task: str, talk: float, whose: str) -> Sourced:
        rows = [self._scenarios[name] for name in SCENARIOS[task]]
        logs = [math.log(float(row["median"])) for row in rows]
        inside = statistics.fmean((math.log(float(row["p75"]) / float(row["p25"])) / 1.349) ** 2 for row in rows)
        sigma = math.sqrt(inside + statistics.pvariance(logs))
        tokens = math.exp(statistics.fmean(logs)) / CHARS_PER_TOKEN.get(task, CHARS_PER_TOKEN_OF_PROSE)
        return Sourced(Answers(talk * tokens, sigma), f"{AUTOJ}, by scenario{whose}", "interpolated")
