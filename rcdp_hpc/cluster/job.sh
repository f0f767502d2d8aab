# shellcheck shell=bash
# What all job scripts share: the site's settings, how ranks are started, and how a stopped job goes back to the queue.
# Sourced, not submitted. Needs RUN, the run directory.

set -u
asked_to_stop='' signalled='' child=''
trap pass_on USR1 TERM
: "${RUN:?name the run directory: sbatch --export=ALL,RUN=runs/first ...}"
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=rcdp_hpc/cluster/site.sh
. "${RCDP_SITE:-$here/site.sh}"
load_environment
read -ra rcdp <<<"$RCDP_COMMAND"
read -ra launch <<<"$RCDP_LAUNCH"

# A task of an array is asked for and requeued by this number: that of the job alone may mean the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

# A rank takes the cores that Slurm gave it and no more. srun does not inherit --cpus-per-task from sbatch.
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
if [ "${launch[0]##*/}" = srun ]; then
    # One lost rank ends the step, and a rank that stops has two minutes for the others to write their part.
    launch+=(--kill-on-bad-exit=1 --wait=120)
    # A node that lost power keeps PMIx's socket of the step that ran there, and its like cannot start again there under
    # the same number: a job that was requeued goes on with the steps behind those.
    for ((lost = 0; lost < ${SLURM_RESTART_COUNT:-0}; lost++)); do
        srun --mpi=none --nodes=1 --ntasks=1 true
    done
fi
mkdir -p "$RUN/logs" "$RUN/jobs"

# Rank 0 speaks in the job's log; what another has to say goes to a file of its own. A rank that still starts when another
# ends with an error lives to end with the same: srun returns the highest code, and of one that it terminated that is 143.
# shellcheck disable=SC2016
by_rank='rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${SLURM_PROCID:-0}}}
prefix=$1
shift
if [ "$rank" != 0 ]; then exec >>"$prefix-rank$rank.log" 2>&1; fi
trap "" TERM
exec "$@"'

# Run a command of rcdp on all ranks of the job: on_ranks search CONFIG --out RUN
on_ranks() {
    to_the_end "$1" "${launch[@]}" bash -c "$by_rank" rank "$RUN/logs/$1-$job" "${rcdp[@]}" "$@"
}

# Run a command of rcdp as one process.
alone() {
    to_the_end "$1" "${rcdp[@]}" "$@"
}

# Run stage $1 by the command that follows. SIGUSR1 and SIGTERM, which Slurm sends to this shell ahead of the time limit
# or a preemption (--signal=B:USR1@120), go on to the ranks as SIGUSR1: they write a checkpoint together and leave with
# code 75. The job is then queued again and goes on from there.
to_the_end() {
    local stage=$1 began="$RUN/jobs/.began-$job" code
    shift
    if [ -n "$asked_to_stop" ]; then go_back_to_the_queue "$stage was not begun"; fi
    : >"$began"
    "$@" &
    child=$!
    # A signal makes wait return early: wait again until the launcher itself has ended.
    signalled=yes
    while [ -n "$signalled" ]; do
        signalled=
        wait "$child"
        code=$?
    done
    child=
    # Launchers may change the code of their ranks; the state file tells what happened. It counts only if this very
    # command wrote it, and wrong input (2) or damaged data (3) would only fail again.
    if [ "$code" -ne 0 ] && [ "$code" -ne 2 ] && [ "$code" -ne 3 ]; then
        if [ -n "$asked_to_stop" ] || noted stopped "$began"; then
            rm -f "$began"
            go_back_to_the_queue "$stage stopped with a checkpoint"
        fi
        if noted running "$began" || { [ "$code" -gt 128 ] && ! noted failed "$began"; }; then
            rm -f "$began"
            after_a_loss "$stage" "$code"
        fi
    fi
    rm -f "$began"
    if [ "$code" -ne 0 ]; then
        echo "$stage ended with code $code"
        grep -hs 'rcdp: error' "$RUN/logs/$stage-$job"-rank*.log | tail -n 3
    fi
    return "$code"
}

# Pass a stop on to the ranks, and again every five seconds: the first may come before they listen, and those after the
# first change nothing.
pass_on() {
    signalled=yes
    if [ -n "$asked_to_stop" ]; then return; fi
    asked_to_stop=yes
    if [ -n "$child" ]; then
        kill -USR1 "$child"
        { while sleep 5 && kill -USR1 "$child"; do :; done; } 2>/dev/null &
    fi
}

# Tell whether a stage noted the status $1 after the file $2 was made.
noted() {
    find "$RUN/state" -name '*.json' -newer "$2" -exec grep -q "\"status\": \"$1\"" {} \; -print 2>/dev/null | grep -q .
}

# Ranks that ended with no word of their own were killed: by the loss of a node, or for want of memory. The others see a
# lost node at once, Slurm only after SlurmdTimeout: a job that ended now would have failed, and one that went back to
# the queue now could get the dead node again. So wait until Slurm has requeued the job itself, and do it if it does not.
after_a_loss() {
    local most=${RCDP_MOST_LOSSES:-3} patience
    echo "$1 ended with code $2 without a word: a node was lost, or memory was short"
    if ! echo lost >>"$RUN/jobs/.lost-$job"; then
        echo "and nothing can be written to $RUN: this job ends here"
        exit "$2"
    fi
    if [ "$(wc -l <"$RUN/jobs/.lost-$job")" -gt "$most" ]; then
        echo "that was so $most times before: this job ends here"
        exit "$2"
    fi
    patience=$(scontrol show config | sed -n 's/^SlurmdTimeout *= \([0-9]*\).*/\1/p')
    sleep "$((${patience:-300} + 30))" &
    wait $!
    go_back_to_the_queue "$1 was cut off"
}

# Queue the job again, which ends it here, unless somebody has cancelled it: ranks stop with a checkpoint then, too.
go_back_to_the_queue() {
    local state
    state=$(scontrol --oneliner show job "$job" | sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p')
    if [ "$state" != RUNNING ]; then
        echo "$1; Slurm is ending the job itself (${state:-unknown})"
    elif [ "${SLURM_RESTART_COUNT:-0}" -ge "${RCDP_MOST_RESTARTS:-50}" ]; then
        echo "$1, but was requeued $SLURM_RESTART_COUNT times already: submit again to go on"
    elif scontrol requeue "$job"; then
        echo "$1: job $job goes back to the queue"
    else
        echo "$1, and this site does not let a job requeue itself: submit again to go on"
    fi
    exit 75
}
