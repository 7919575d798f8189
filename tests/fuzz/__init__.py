"""Files and command lines as nobody meant them, and what `sdic` makes of them.

    PYTHONPATH=tests python -m fuzz --inputs 10000 --seed 1    any number of inputs
    PYTHONPATH=tests python -m fuzz.kills --count 100          any number of kills
    pytest tests/fuzz                                          a minute of both

`mutators` changes bytes, `world` has the files to begin with and the commands that read them, and
the one oracle.
"""
