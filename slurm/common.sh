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
    began=$(mktemp)
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
    # Launchers may change the code of their ranks; the state file tells what happened. It counts only if this very
    # command wrote it, and wrong input (2) or damaged data (3) would only fail again.
    if [ "$code" -ne 0 ] && [ "$code" -ne 2 ] && [ "$code" -ne 3 ] && stopped_since "$began"; then
        rm -f "$began"
        if [ "${SLURM_RESTART_COUNT:-0}" -ge "${RCDP_MOST_RESTARTS:-50}" ]; then
            echo "stopped with a checkpoint, but requeued ${SLURM_RESTART_COUNT} times already: submit again to go on"
            exit 75
        fi
        echo "stopped with a checkpoint: job $SLURM_JOB_ID goes back to the queue"
        scontrol requeue "$SLURM_JOB_ID"
        exit 75
    fi
    rm -f "$began"
    return "$code"
}

# Tell whether a stage recorded a stop after the file $1 was made.
stopped_since() {
    find "$RUN/state" -name '*.json' -newer "$1" -exec grep -q '"status": "stopped"' {} \; -print 2>/dev/null | grep -q .
}
