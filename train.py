"""Trains, validates, tests and predicts: `python train.py fit --config configs/quickstart.yaml`. The same as `perceiver`."""

import sys

from perceiver.cli import main

if __name__ == "__main__":
    sys.exit(main())
