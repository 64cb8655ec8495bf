"""python -m bestserve.proxy"""

from .cli import main

main()
