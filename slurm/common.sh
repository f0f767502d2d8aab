# shellcheck shell=bash
# What all job scripts share: site settings, and how a stopped stage is started again. Sourced, not submitted.

set -u
: "${RUN:?name the run directory: sbatch --export=ALL,RUN=runs/first ...}"
# shellcheck source=slurm/site.sh
. "${RCDP_SITE:-$SLURM_SUBMIT_DIR/slurm/site.sh}"

# Run one rcdp command on the job's ranks. A signal that Slurm sends to this shell ahead of the time limit or a
# preemption (--signal=B:USR1@90) goes on to the ranks, which write a checkpoint together and leave with code 75.
# The job is then queued again and goes on from there.
run_stage() {
    # Unquoted on purpose: a launcher is a command and its options.
    # shellcheck disable=SC2086
    "$@" &
    child=$!
    trap 'kill -USR1 "$child" 2>/dev/null' USR1 TERM
    # wait returns early when the trap runs: wait until the launcher itself has ended.
    while :; do
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    trap - USR1 TERM
    # Launchers may change the code of their ranks; the state file tells what happened.
    if [ "$code" -ne 0 ] && grep -qs '"status": "stopped"' "$RUN"/state/*.json; then
        echo "stopped with a checkpoint: job $SLURM_JOB_ID goes back to the queue"
        scontrol requeue "$SLURM_JOB_ID"
        exit 75
    fi
    return "$code"
}
