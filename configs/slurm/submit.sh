#!/usr/bin/env bash
# Runs a recipe on a Slurm cluster: one job trains its teachers, an array makes the synthetic images in parts, and one job joins
# them, trains the students and evaluates.
#
#   configs/slurm/submit.sh RECIPE PARTS RUNS [OPTION OF SBATCH...]
#
# RUNS is a folder that all nodes see; the result is in RUNS/whole. A job that was killed goes on where it was when the same
# command is submitted again: what is finished is not run again.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,8p' "$0" >&2; exit 2; }
recipe=$1 parts=$2 runs=$3
shift 3
export GUARD_HOST=${GUARD_HOST:-guard-host} RECIPE=$recipe PARTS=$parts RUNS=$runs
mkdir -p "$runs/logs"

submit() { sbatch --parsable --kill-on-invalid-dep yes --output "$runs/logs/%x-%A-%a.log" "$@"; }

teacher=$(submit "$@" --job-name teacher <<'JOB'
#!/usr/bin/env bash
set -euo pipefail
if [ -f "$RUNS/teacher/command.json" ]; then
    "$GUARD_HOST" --quiet --resume "$RUNS/teacher"
else
    "$GUARD_HOST" run "$RECIPE" --quiet --until train --out "$RUNS/teacher"
fi
JOB
)
array=$(submit "$@" --job-name part --dependency "afterok:$teacher" --array "1-$parts" <<'JOB'
#!/usr/bin/env bash
set -euo pipefail
out=$RUNS/part-$SLURM_ARRAY_TASK_ID
if [ -f "$out/command.json" ]; then
    "$GUARD_HOST" --quiet --resume "$out" --reuse "$RUNS/teacher"
else
    "$GUARD_HOST" run "$RECIPE" --quiet --shard slurm --reuse "$RUNS/teacher" --out "$out"
fi
JOB
)
whole=$(submit "$@" --job-name whole --dependency "afterok:$array" <<'JOB'
#!/usr/bin/env bash
set -euo pipefail
mapfile -t parts < <(seq -f "$RUNS/part-%g" "$PARTS")
if [ -f "$RUNS/whole/command.json" ]; then
    "$GUARD_HOST" --quiet --resume "$RUNS/whole" "${parts[@]/#/--reuse=}"
else
    "$GUARD_HOST" merge "${parts[@]}" --quiet --out "$RUNS/whole"
fi
JOB
)
echo "jobs $teacher (teachers), $array (parts 1-$parts), $whole (the whole, in $runs/whole)"
