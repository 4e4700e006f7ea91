"""Trains the recipe of spoken digits six times, each time without one speaker, and tests it on that speaker alone.

    python benchmarks/leave_one_speaker_out.py [more options of `train.py fit`]

Leaves `runs/spoken_digits_without_<speaker>/metrics.json`, and prints the accuracies and their mean.
"""

import sys
from statistics import mean

from perceiver.cli import main
from perceiver.data import FreeSpokenDigits
from perceiver.run_folder import RunFolder

SOURCE = "--data.init_args.datasets.spoken_digits.source.init_args.held_out_speaker"

if __name__ == "__main__":
    found = {}
    for speaker in FreeSpokenDigits.speakers:
        folder = RunFolder(f"runs/spoken_digits_without_{speaker}")
        if code := main(["fit", "--config", "configs/spoken_digits.yaml", *sys.argv[1:], SOURCE, speaker, "--run_dir", str(folder.path)]):
            sys.exit(code)
        found[speaker] = folder.metrics()["test/accuracy/spoken_digits"]
    for speaker, accuracy in found.items():
        print(f"{speaker:10} {100 * accuracy:.1f} %")
    print(f"{'mean':10} {100 * mean(found.values()):.1f} %")
