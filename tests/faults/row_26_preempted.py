"""A run is asked to end, because its machine is taken away."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.processes import ROOT, environment
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm, mixture, resume
from tests.faults.subjects.trace import same, starts

FAULT = "SIGTERM in the middle of a step"
EXPECTED = "a checkpoint of that step, an exit code by which it is started again, and an exact resume"

PREEMPTED = 75
GRACE = 170.0  # seconds for the whole job, after which its step is killed
SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "perceiver",
    "SLURM_NTASKS": "1",
    "SLURM_NNODES": "1",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_NODELIST": "localhost",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}

# The job: as a user has it, but that it trains the toy mixture.
JOB = """#!/bin/bash
#SBATCH --requeue
resume=()
[ -e {last} -o -e {last}.previous ] && resume=(--ckpt_path {last})
srun {train} "${{resume[@]}}"
code=$?
[ $code -eq 75 ] && scontrol requeue "$SLURM_JOB_ID"
exit $code
"""

# The cluster. It runs a job, and runs it again when that was asked for; a step has a process group of its own, all of which is asked to end.
MOCKS = {
    "sbatch": """#!/bin/bash
for SLURM_RESTART_COUNT in 0 1 2; do
    export SLURM_RESTART_COUNT
    bash "$1"
    code=$?
    echo "$code" >> {folder}/codes
    rm {folder}/requeued 2> /dev/null || exit $code
done
exit 1
""",
    "srun": """#!/bin/bash
echo $$ > {folder}/step
exec setsid --wait "$@"
""",
    "scontrol": """#!/bin/bash
[ "$1 $2" = "requeue 4711" ] && touch {folder}/requeued
""",
}


def ours(folder: Path) -> str:
    """Asked once; asked again while it saves; and as a job of a mocked SLURM, with data workers, which are asked, too."""
    whole, once, twice, job = folder / "whole", folder / "once", folder / "twice", folder / "job"
    with Warm("ours") as train:
        if (done := train(*mixture(whole))).returncode:
            raise Fell(done.said)
        said = ""
        for run, befalls in (
            (once, {"TermAt": 4}),
            (twice, {"TermAt": 4, "StrikeSave": {"step": 5, "at": "state.safetensors", "number": int(signal.SIGTERM)}}),
        ):
            done = train(*mixture(run, **befalls))
            said = said or done.said
            if done.returncode != PREEMPTED or "saved step 5" not in done.said:
                raise Fell(f"{run.name}: exit code {done.returncode}: {done.said}")
            if (done := train(*mixture(run, *resume(run)))).returncode:
                raise Fell(f"{run.name}: {done.said}")
            same(whole, run, 5)
    codes = cluster(folder / "cluster", job)
    if codes != [PREEMPTED, 0]:
        raise Fell(f"as a SLURM job with data workers: exit codes {codes}, where 137 is a step that did not end and was killed")
    same(whole, job, 5)
    return f"exit code {PREEMPTED}: {said}; the same when it is asked again during the save; a SLURM job is requeued; all go on bit by bit"


def cluster(folder: Path, run: Path) -> list[int]:
    """Trains as a job of a mocked cluster, which asks it to end once. The exit codes of the job."""
    folder.mkdir()
    for name, script in MOCKS.items():
        (folder / name).write_text(script.format(folder=shlex.quote(str(folder))))
        (folder / name).chmod(0o755)
    words = mixture(run, "--data.init_args.num_workers=2", TermAt={"step": 4, "everyone": True})
    last = shlex.quote(str(run / "checkpoints" / "last.ckpt"))
    (folder / "job").write_text(JOB.format(last=last, train=shlex.join([sys.executable, "train.py", *words])))
    given = environment() | SLURM | {"PATH": f"{folder}:{os.environ['PATH']}"}
    sent = subprocess.Popen(["sbatch", str(folder / "job")], cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = sent.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(int((folder / "step").read_text()), signal.SIGKILL)  # as a cluster does when the time is over
        said, _ = sent.communicate()
    if not (folder / "codes").exists():
        raise Fell(f"the job did not run: {said[-300:]}")
    return [int(code) for code in (folder / "codes").read_text().split()]


def lightning(folder: Path) -> str:
    """Without a cluster, and without OnExceptionCheckpoint, which is not a default."""
    return peer("lightning", folder)


def transformers(folder: Path) -> str:
    """Without `enable_jit_checkpoint`, which is not a default."""
    return peer("transformers", folder)


def accelerate(folder: Path) -> str:
    """It has nothing for it; its loop is the user's."""
    return peer("accelerate", folder)


def peer(subject: str, folder: Path) -> str:
    """Checkpoints every 4 steps; asked in step 6."""
    whole, run = folder / "whole", folder / "run"
    with Warm(subject) as train:
        if (done := train(whole, "--in_order")).returncode:
            raise Fell(done.said)
        ended = train(run, "--in_order", "--term_at", 6)
        done = train(run, "--in_order", "--resume")
    if done.returncode:
        raise Fell(f"exit code {ended.returncode}; it cannot be resumed: {done.said}")
    begun = starts(run)[1]
    if begun < 6:
        raise Fell(f"exit code {ended.returncode}, no checkpoint: it is resumed from step {begun}, the last one that was due")
    return f"exit code {ended.returncode}; {same(whole, run, begun)}"
