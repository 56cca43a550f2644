#!/usr/bin/env bash
# Train on hosts that Slurm lends: sbatch infra/slurm.sh
# One Ray for the time of the job, its head on the first host. Submitted again it resumes, also
# when Slurm ended it in the middle.
#SBATCH --job-name=laformer-train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=64
#SBATCH --exclusive
#SBATCH --time=24:00:00
set -euo pipefail

: "${LAFORMER_STORE:?names where runs live: s3://bucket/laformer or a folder that all hosts see}"
: "${MLFLOW_TRACKING_URI:?names the MLflow server}"

host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# Jobs may share a network: a port of its own, and a token that only this job's processes know.
address="$host:$((20000 + SLURM_JOB_ID % 20000))"
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"

# --exclusive above is needed: symmetric-run ends with `ray stop`, which ends every Ray of a host.
srun --kill-on-bad-exit=1 ray symmetric-run --address "$address" \
    --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" \
    --num-gpus "$SLURM_GPUS_ON_NODE" --include-dashboard false -- \
    env RAY_ADDRESS="$address" laformer train denoise-gaussian
