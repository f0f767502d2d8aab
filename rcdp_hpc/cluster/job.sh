# shellcheck shell=bash
# What all job scripts share: the site's settings, how ranks are started, and how a stopped job goes back to the queue.
# Sourced, not submitted. Needs RUN, the run directory.

asked_to_stop='' signalled='' child=''
trap pass_on USR1 TERM
: "${RUN:?name the run directory: sbatch --export=ALL,RUN=runs/first ...}"
here=$(dirname "${BASH_SOURCE[0]}")
site=${RCDP_SITE:-$here/site.sh}
# shellcheck source=rcdp_hpc/cluster/site.sh
. "$site"
if ! load_environment; then
    echo "rcdp: error: load_environment of $site failed: what it says stands above. Mend it, and submit again."
    exit 2
fi
# Not before: conda and Lmod read variables that nobody set.
set -u
read -ra rcdp <<<"$RCDP_COMMAND"
read -ra launch <<<"$RCDP_LAUNCH"

# A task of an array is asked for and requeued by this number: that of the job alone may mean the whole array.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

# A rank takes the cores that Slurm gave it and no more. srun does not inherit --cpus-per-task from sbatch.
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
if [ "${launch[0]##*/}" = srun ]; then
    # A lost rank ends the step, and so does the first that leaves with code 75: what the others write is safe by then,
    # since all pass a barrier behind the checkpoint. Where ranks end well and others do not, these get two minutes.
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
# Nor do signals to stop end a rank before Python listens to them: they come again.
# shellcheck disable=SC2016
by_rank='rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${SLURM_PROCID:-0}}}
prefix=$1
shift
if [ "$rank" != 0 ]; then exec >>"$prefix-rank$rank.log" 2>&1; fi
trap "" TERM USR1 USR2
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
    local stage=$1 began="$RUN/jobs/.began-$job" code ending errors
    shift
    if [ -n "$asked_to_stop" ]; then go_back_to_the_queue "$stage was not begun"; fi
    : >"$began"
    "$@" &
    child=$!
    # A signal that came while there was no child yet.
    if [ -n "$asked_to_stop" ]; then send_stop; fi
    # A signal makes wait return early: wait again until the launcher itself has ended.
    signalled=yes
    while [ -n "$signalled" ]; do
        signalled=
        wait "$child"
        code=$?
    done
    child=
    errors=$(errors_of_ranks "$stage" "$began")
    ending=$(how_it_ended "$code" "$began" "$errors")
    rm -f "$began"
    case $ending in
        stopped) go_back_to_the_queue "$stage stopped with a checkpoint" ;;
        lost) after_a_loss "$stage" "$code" ;;
    esac
    if [ "$code" -ne 0 ]; then
        echo "$stage ended with code $code"
        if [ -n "$errors" ]; then echo "$errors"; fi
    fi
    return "$code"
}

# Tell how a stage ended, by its code $1, the file $2 made when it began, and the errors $3 of its ranks: "stopped" and
# "lost" go back to the queue.
# Launchers may change the code of their ranks: the state files and the ranks' logs, written by this very command, tell
# what happened. Wrong input (2) or damaged data (3) would only fail again, and so would what a rank noted or said itself.
how_it_ended() {
    case $1 in 0 | 2 | 3) return ;; esac
    if noted failed "$2"; then
        echo failed
    elif noted stopped "$2"; then
        echo stopped
    elif [ -n "$3" ]; then
        echo failed
    elif [ -n "$asked_to_stop" ]; then
        echo stopped
    elif noted running "$2" || [ "$1" -gt 128 ]; then
        echo lost
    fi
}

# Print the last errors that ranks but rank 0 told of in stage $1 after the file $2 was made. That Horovod has ended is
# what the others of a lost rank say.
errors_of_ranks() {
    find "$RUN/logs" -name "$1-$job-rank*.log" -newer "$2" -exec grep -h 'rcdp: error' {} + 2>/dev/null |
        grep -v 'Horovod has ended' | tail -n 3
}

# Pass a stop on to the ranks, and again every five seconds: the first may come before they listen, and those after the
# first change nothing.
pass_on() {
    signalled=yes
    if [ -n "$asked_to_stop" ]; then return; fi
    asked_to_stop=yes
    if [ -n "$child" ]; then send_stop; fi
}
send_stop() {
    kill -USR1 "$child"
    { while sleep 5 && kill -USR1 "$child"; do :; done; } 2>/dev/null &
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
    # The first JobState: the job's paths stand behind it. Where scontrol does not answer, requeueing shows what is so.
    state=$(scontrol --oneliner show job "$job" | grep -o ' JobState=[A-Z_]*' | head -n 1)
    state=${state#*=}
    if [ "${state:-RUNNING}" != RUNNING ]; then
        echo "$1; Slurm is ending the job itself ($state)"
    elif [ "${SLURM_RESTART_COUNT:-0}" -ge "${RCDP_MOST_RESTARTS:-50}" ]; then
        echo "$1, but was requeued $SLURM_RESTART_COUNT times already: submit again to go on"
    elif scontrol requeue "$job"; then
        echo "$1: job $job goes back to the queue"
    else
        echo "$1, and this site does not let a job requeue itself: submit again to go on"
    fi
    exit 75
}
