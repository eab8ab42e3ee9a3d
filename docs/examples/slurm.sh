#!/bin/bash
# An array of sixteen jobs, each of which makes a sixteenth of the shards: sbatch docs/examples/slurm.sh
#SBATCH --job-name=wordmask-embed
#SBATCH --array=1-16
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail

# Started again, a job goes on where it was; whichever ends last joins the shards.
srun wordmask embed /data/shards --out /data/embeddings --device cuda --shards "${SLURM_ARRAY_TASK_ID}/16"
