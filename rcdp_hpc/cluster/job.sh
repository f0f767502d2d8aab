# shellcheck shell=bash
# Functions of all job scripts: they read the site file, start the ranks, and requeue a stopped job.
# This file is sourced, not submitted. It needs RUN, the run directory.

asked_to_stop='' signalled='' child=''
trap forward_stop USR1 TERM
: "${RUN:?name the run directory: sbatch --export=ALL,RUN=runs/first ...}"
here=$(dirname "${BASH_SOURCE[0]}")
site=${RCDP_SITE:-$here/site.sh}
# shellcheck source=rcdp_hpc/cluster/site.sh
. "$site"
if ! load_environment; then
    echo "rcdp: error: load_environment of $site failed with the messages above. Correct it and submit again."
    exit 2
fi
# Not earlier, because conda and Lmod read unset variables.
set -u
read -ra rcdp <<<"$RCDP_COMMAND"
read -ra launch <<<"$RCDP_LAUNCH"

# The number that identifies this job, or this task of an array, in queries and requeues.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

# A rank uses at most its allocated cores. srun does not inherit --cpus-per-task from sbatch.
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
if [ "${launch[0]##*/}" = srun ]; then
    # A lost rank ends the step, and so does the first rank that exits with code 75. The checkpoint is complete by then,
    # because all ranks pass a barrier after writing it. When a rank has exited with code 0, the others have two minutes.
    launch+=(--kill-on-bad-exit=1 --wait=120)
    # A node that lost power keeps the PMIx socket of its step, and a step of the same number cannot start there again.
    # Empty steps make a requeued job continue with other step numbers.
    for ((lost = 0; lost < ${SLURM_RESTART_COUNT:-0}; lost++)); do
        srun --mpi=none --nodes=1 --ntasks=1 true
    done
fi
mkdir -p "$RUN/logs" "$RUN/jobs"

# The output of rank 0 is in the log of the job, that of each other rank in a separate file. Signals are ignored until
# Python handles them. Otherwise srun would terminate a rank that is still starting when another one fails, and return
# its code 143 instead of the code of the error, because it returns the highest. Stop signals are sent repeatedly.
# shellcheck disable=SC2016
by_rank='rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${SLURM_PROCID:-0}}}
prefix=$1
shift
if [ "$rank" != 0 ]; then exec >>"$prefix-rank$rank.log" 2>&1; fi
trap "" TERM USR1 USR2
exec "$@"'

# Run a command of rcdp on all ranks of the job: on_ranks search CONFIG --out RUN
on_ranks() {
    run_stage "$1" "${launch[@]}" bash -c "$by_rank" rank "$RUN/logs/$1-$job" "${rcdp[@]}" "$@"
}

# Run a command of rcdp as one process.
on_one_process() {
    run_stage "$1" "${rcdp[@]}" "$@"
}

# Run stage $1 with the command that follows. Slurm sends SIGUSR1 or SIGTERM to this shell before the time limit or a
# preemption (--signal=B:USR1@120). They are forwarded to the ranks as SIGUSR1, which write a checkpoint and exit with
# code 75. The job is then requeued and continues from the checkpoint.
run_stage() {
    local stage=$1 began="$RUN/jobs/.began-$job" code ending errors losses
    shift
    if [ -n "$asked_to_stop" ]; then requeue_job "$stage was not started"; fi
    : >"$began"
    "$@" &
    child=$!
    # A signal may have arrived before the child was started.
    if [ -n "$asked_to_stop" ]; then send_stop; fi
    # A signal makes wait return early: repeat it until the launcher has ended.
    signalled=yes
    while [ -n "$signalled" ]; do
        signalled=
        wait "$child"
        code=$?
    done
    child=
    errors=$(errors_of_ranks "$stage" "$began")
    losses=$(losses_of_ranks "$stage" "$began")
    ending=$(classify_ending "$code" "$began" "$errors")
    rm -f "$began"
    case $ending in
        stopped) requeue_job "$stage stopped with a checkpoint" ;;
        lost) requeue_after_loss "$stage" "$code" "$losses" ;;
    esac
    if [ "$code" -ne 0 ]; then
        echo "$stage ended with code $code"
        if [ -n "$errors" ]; then echo "$errors"; fi
    fi
    return "$code"
}

# Print how a stage ended, from its exit code $1, the file $2 created at its start, and the errors $3 of its ranks. After
# "stopped" and "lost" the job is requeued. Launchers may change the exit code of the ranks, so state files and logs of the
# ranks decide. Wrong input (2), damaged data (3), and errors that a rank has recorded or logged would only fail again.
classify_ending() {
    case $1 in 0 | 2 | 3) return ;; esac
    if has_status failed "$2"; then
        echo failed
    elif has_status stopped "$2"; then
        echo stopped
    elif [ -n "$3" ]; then
        echo failed
    elif [ -n "$asked_to_stop" ]; then
        echo stopped
    elif has_status running "$2" || [ "$1" -gt 128 ]; then
        echo lost
    fi
}

# Print the last errors that ranks other than 0 logged in stage $1 after the file $2 was created, except for the message
# of ranks that have lost another rank.
errors_of_ranks() {
    find "$RUN/logs" -name "$1-$job-rank*.log" -newer "$2" -exec grep -h 'rcdp: error' {} + 2>/dev/null |
        grep -v 'has lost another rank' | tail -n 3
}
# Print the last message of a rank other than 0 that has lost another rank; it has the words of the engine.
losses_of_ranks() {
    find "$RUN/logs" -name "$1-$job-rank*.log" -newer "$2" -exec grep -h 'has lost another rank' {} + 2>/dev/null |
        tail -n 1
}

# Forward a stop signal to the ranks, repeatedly, because ranks that are still starting ignore it. Further signals have no
# effect on ranks that have received one.
forward_stop() {
    signalled=yes
    if [ -n "$asked_to_stop" ]; then return; fi
    asked_to_stop=yes
    if [ -n "$child" ]; then send_stop; fi
}
send_stop() {
    kill -USR1 "$child"
    { while sleep 5 && kill -USR1 "$child"; do :; done; } 2>/dev/null &
}

# Return whether a stage has recorded the status $1 since the file $2 was created.
has_status() {
    find "$RUN/state" -name '*.json' -newer "$2" -exec grep -q "\"status\": \"$1\"" {} \; -print 2>/dev/null | grep -q .
}

# Ranks that ended without a message were killed, because a node was lost or memory was exhausted. Other ranks notice a
# lost node at once, Slurm only after SlurmdTimeout. A job that ends before would count as failed, and a job that is
# requeued before could get the same node again. So wait for Slurm to requeue the job, and requeue it if it does not.
requeue_after_loss() {
    local most=${RCDP_MOST_LOSSES:-3} timeout
    echo "$1 ended with code $2 without a message of the cause: a node was lost, or memory was exhausted"
    if [ -n "$3" ]; then echo "$3"; fi
    if ! echo lost >>"$RUN/jobs/.lost-$job"; then
        echo "$RUN cannot be written: this job ends"
        exit "$2"
    fi
    if [ "$(wc -l <"$RUN/jobs/.lost-$job")" -gt "$most" ]; then
        echo "this has happened $most times before: this job ends"
        exit "$2"
    fi
    timeout=$(scontrol show config | sed -n 's/^SlurmdTimeout *= \([0-9]*\).*/\1/p')
    sleep "$((${timeout:-300} + 30))" &
    wait $!
    requeue_job "$1 was interrupted"
}

# Requeue the job, which ends this script, unless the job was cancelled (ranks stop with a checkpoint in that case, too).
requeue_job() {
    local state
    # The first JobState, because paths of the job follow and may contain anything. If scontrol does not respond, try it.
    state=$(scontrol --oneliner show job "$job" | grep -o ' JobState=[A-Z_]*' | head -n 1)
    state=${state#*=}
    if [ "${state:-RUNNING}" != RUNNING ]; then
        echo "$1; Slurm is ending the job itself ($state)"
    elif [ "${SLURM_RESTART_COUNT:-0}" -ge "${RCDP_MOST_RESTARTS:-50}" ]; then
        echo "$1, but was requeued $SLURM_RESTART_COUNT times already: submit again to continue"
    elif scontrol requeue "$job"; then
        echo "$1: job $job is requeued"
    else
        echo "$1, and this site does not allow a job to requeue itself: submit again to continue"
    fi
    exit 75
}
