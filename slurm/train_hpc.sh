#!/bin/bash
#
# Train by hand:   sbatch slurm/train_hpc.sh profiles/hpc.yaml [--set train.seed=7 ...]
# Resume a run:    sbatch slurm/train_hpc.sh --resume RUN [--set train.epochs=200 ...]
#
# This script does the same as `hpc-submit profiles/hpc.yaml`. Read it to understand the job script that hpc-submit
# writes, which ends with the same text. Give options for one job on sbatch's command line, before this file:
#
#   sbatch --nodes=2 --time=12:00:00 --partition=gpu slurm/train_hpc.sh profiles/hpc.yaml
#
#SBATCH --job-name=hpctrain
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4        # one rank per GPU
#SBATCH --gpus-per-node=4          # all ranks of a node see all its GPUs; each uses the GPU of its local rank
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00            # limit of one attempt; the job requeues itself and continues
#SBATCH --signal=USR2@180          # three minutes before, Slurm warns the ranks: they save and exit with code 75
#SBATCH --requeue                  # allow Slurm to requeue after a pre-emption, and `scontrol requeue` below
#SBATCH --open-mode=append         # the default truncates the log of the earlier attempts
#SBATCH --output=hpctrain-%j.log

# Modules, conda or NCCL settings of your cluster go here, such as:
# module load cuda/12.4
# export NCCL_SOCKET_IFNAME=ib0

# Use the Python that has hpctrain's packages: $HPCTRAIN_PYTHON, the .venv of this checkout, or python3 on PATH.
checkout=$SLURM_SUBMIT_DIR
python=${HPCTRAIN_PYTHON:-}
if [ -z "$python" ] && [ -x "$checkout/.venv/bin/python" ]; then python=$checkout/.venv/bin/python; fi
python=${python:-python3}
if [ -d "$checkout/hpctrain" ]; then export PYTHONPATH=$checkout${PYTHONPATH:+:$PYTHONPATH}; fi

# At the first start this makes the run directory from the profile; after a requeue it finds it by the job id.
mapfile -t answer < <("$python" -m hpctrain submit --inside-job "$@")
run_dir=${answer[0]:-}
requeue=${answer[1]:-}
max_attempts=${answer[2]:-}
max_attempts_without_progress=${answer[3]:-}
if [ "$run_dir" = finished ]; then exit 0; fi # nothing to do; the reason is printed above
if [ -z "$run_dir" ]; then exit 2; fi         # the reason is printed above
echo "hpctrain: the run directory is $run_dir; the ranks write to its logs/"
trainer=("$python" -u -m hpctrain.train)
beside=("$python" -u -m hpctrain.alerts.beside)
prepare=() longest_slice= runs_ray=no # the environment may hold variables of these names

# ---- one attempt and the decision after it: the same text in every job script (hpctrain/launch/attempt.sh) -----------
# Set above:  run_dir   trainer=(command of every rank)   requeue=yes|no   max_attempts   max_attempts_without_progress
#             prepare=(command before the ranks start), empty if there is none
#             beside=(command that watches the attempt and tells alerts), empty if there is none
#             longest_slice=time limit to ask for again if Slurm may shorten it to fill a hole in the queue, else empty
#             runs_ray=yes if the command is one process per node that runs Ray there (docs/ray.md), elastic if the job
#             also goes on without a node that is lost, else no

# scancel, an admin's requeue and the time limit send TERM to this shell. The shell then requeues nothing, because Slurm
# or a person has already decided. The trap is one assignment: a TERM to all processes of the job would kill a bash that
# runs a command inside a trap.
terminated=no
trap 'terminated=yes' TERM

job=$SLURM_JOB_ID
if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
    job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID # the last task's plain id means the whole array to scontrol
fi
restart=${SLURM_RESTART_COUNT:-0}
# Who may read and write the run: the word in this file, of the run or of what it belongs to (hpctrain/access.py). Slurm
# takes the umask of the ranks and of their logs from the variable, which holds that of the submission.
for folder in "$run_dir" "$run_dir"/.. "$run_dir"/../.. "$run_dir"/../../.. "$run_dir"/../../../..; do
    word=$(head -c 64 "$folder/.hpctrain-access" 2>/dev/null)
    case $word in
    private) umask 077 ;;
    group) umask 007 ;;
    public) umask 022 ;;
    *) continue ;;
    esac
    SLURM_UMASK=$(umask) && export SLURM_UMASK
    break
done
mkdir -p "$run_dir/logs" "$run_dir/attempts" "$run_dir/checkpoints"

newest_checkpoint() {
    local manifests=("$run_dir"/checkpoints/step-*/MANIFEST.json)
    local checkpoint=${manifests[-1]%/MANIFEST.json}
    if [ -e "${manifests[-1]}" ]; then echo "${checkpoint##*/}"; else echo none; fi
}

# The ranks save before this time even if Slurm's warning signal comes late; it can be late by half a minute.
ends=$(SLURM_TIME_FORMAT=standard squeue -h -j "$job" -o %e 2>/dev/null)
if [[ $ends == [0-9]*T* ]]; then
    HPCTRAIN_DEADLINE=$(date -d "$ends" +%s) && export HPCTRAIN_DEADLINE
fi
kill_wait_s=$(scontrol show config 2>/dev/null | sed -n 's/^KillWait *= \([0-9]*\) .*/\1/p') # TERM to KILL

# A TERM has no reason; Slurm knows it. A job at its time limit, which may have changed since the start, has the reason
# TimeLimit; if the controller does not answer, the clock decides. A requeued job has one more restart; if its node was
# lost, another attempt owns the run by now.
restarts=$restart
ask_slurm() {
    slurm_says=$(timeout 5 scontrol show job "$job" -o 2>/dev/null)
    if [[ $slurm_says =~ \ Restarts=([0-9]+)\  ]]; then restarts=${BASH_REMATCH[1]}; fi
}
at_time_limit() {
    ask_slurm
    if [[ $slurm_says == *" JobState="* ]]; then
        [[ $slurm_says == *" Reason=TimeLimit "* ]]
    else
        [ "$(date +%s)" -ge "${HPCTRAIN_DEADLINE:-9999999999}" ]
    fi
}

# The ranks connect to the first node. Its name may not resolve, but Slurm knows its address. Rank 0 finds a free port.
first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_ADDR=$(sinfo -h -n "$first_node" -o %o | head -n 1)
export MASTER_ADDR=${MASTER_ADDR:-$first_node}

# A task of a search first chooses what its trial tries. Code 79 means that nothing is left to do; any other code but 0
# ends the attempt as if a rank had failed with it.
code=0
if [ -n "${prepare[*]}" ]; then
    "${prepare[@]}" "$run_dir"
    code=$?
    if [ "$code" = 79 ]; then exit 0; fi
fi

history=$run_dir/attempts/ended.tsv # time, job, restart, exit code, newest checkpoint before and after, decision
# With Ray there may be several attempts, each of which is in the history. Print how many this job has, the restart of
# the last one and what followed it.
attempts_on_record() {
    cat "$history" 2>/dev/null | awk -F '\t' -v job="$job" '
        $2 == job { count++; last = $3; followed = $7 } END { print count + 0, count ? last : -1, followed "-" }'
}
read -r recorded_before _ < <(attempts_on_record)

before=$(newest_checkpoint)
beside_pid=
srun_log=$run_dir/logs/job-$job.$restart-srun.log
: >>"$srun_log"
who="$SLURM_NTASKS ranks"
if [ "${runs_ray:-no}" != no ]; then who=Ray; fi
echo "hpctrain: job $job, restart $restart, $who on $SLURM_JOB_NODELIST, newest checkpoint: $before"
# srun does not inherit --cpus-per-task from sbatch. Without --kill-on-bad-exit the other ranks would wait for a dead
# rank; with it they get TERM, also while they wait for each other at the start. GPUs must not be bound to tasks: a rank
# chooses its device by its local rank, and NCCL needs to see the GPUs of its peers.
run_ranks() {
    if [ -n "${beside[*]}" ] && [ "${runs_ray:-no}" = no ]; then # with Ray each attempt of its ranks has its own
        "${beside[@]}" "$run_dir" "$job" "$restart" &
        beside_pid=$!
    fi
    local options=(--open-mode=append --output="${run_dir//%/%%}/logs/job-$job.$restart-rank-%4t.log")
    if [ "${runs_ray:-no}" != no ]; then # its ranks have logs of their own; its own words come here
        options=(--nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1)
    fi
    local kill=1
    if [ "${runs_ray:-no}" = elastic ]; then kill=0 && options+=(--no-kill); fi
    srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=$kill --unbuffered "${options[@]}" \
        "${trainer[@]}" "$run_dir" 2>>"$srun_log" &
    srun_pid=$!
    wait "$srun_pid"
    code=$?
    decide_at=$((SECONDS + ${kill_wait_s:-30} * 2 / 3))
    while kill -0 "$srun_pid" 2>/dev/null; do # a TERM ends `wait` early; the ranks may still be saving
        # If they hang, Slurm kills them and this shell. So this shell decides before that whether it was the time limit.
        if [ "$SECONDS" -ge "$decide_at" ]; then
            if at_time_limit; then break; fi
            decide_at=$((SECONDS + 5))
        fi
        sleep 0.2
    done
    if kill -0 "$srun_pid" 2>/dev/null; then
        code=143
    else
        wait "$srun_pid" # bash remembers the exit code
        code=$?
    fi
}

failed_with=
if [ "$code" = 0 ]; then
    run_ranks
    cat "$srun_log" >&2
elif [ "$code" -le 7 ]; then
    failed_with=$code
fi

# srun returns the highest exit code of all ranks, so a rank that srun ended can hide the code of the rank that failed.
# Codes 2 to 7 of any rank count: that rank knew the error. Code 1 (a bug) counts only if no rank was killed, because a
# rank that loses its peer exits with 1 too.
if [ -z "$failed_with" ]; then
    failed_with=$(sed -n 's/.*task.*: Exited with exit code \([2-7]\)$/\1/p' "$srun_log" | head -n 1)
fi
if [ -z "$failed_with" ] && ! grep -qE 'task.*: (Killed|Aborted|Segmentation|Bus error|Out Of Memory)' "$srun_log"; then
    failed_with=$(sed -n 's/.*task.*: Exited with exit code 1$/1/p' "$srun_log" | head -n 1)
fi
if [ -z "$failed_with" ] && grep -q 'task.*: Exited with exit code 77$' "$srun_log"; then code=77; fi # a node is unfit
if [ "$code" = 0 ] && grep -q '^srun: error: Node failure' "$srun_log"; then code=76; fi # srun returns 0
# The first node of Ray has seen all attempts, and knows better than srun, for which a lost node is the end.
ended_with=$run_dir/attempts/ray-$job.$restart.code
if [ "${runs_ray:-no}" != no ] && [ -s "$ended_with" ]; then
    code=$(cat "$ended_with")
    rm -f "$ended_with"
    failed_with=
    if [ "$code" -ge 1 ] && [ "$code" -le 7 ]; then failed_with=$code; fi
fi
after=$(newest_checkpoint)

attempts_without_progress() {
    local count=0 ended of_job of_restart its_code its_before its_after followed
    while IFS=$'\t' read -r ended of_job of_restart its_code its_before its_after followed; do
        if [ "$of_job" != "$job" ] || [ "$followed" = terminated ]; then continue; fi
        if [ "$its_before" = "$its_after" ]; then count=$((count + 1)); else count=0; fi
    done < <(cat "$history" 2>/dev/null)
    if [ "$before" = "$after" ]; then echo $((count + 1)); else echo 0; fi
}

# Slurm does not requeue a job at its time limit. This script does, even if the warning came too late to save.
if at_time_limit; then terminated=no; fi
if [ "$restarts" -gt "$restart" ]; then terminated=yes; fi

# The node of the first killed rank gets a strike. The trainer's pre-flight tests the nodes and writes here too.
strikes=$run_dir/attempts/bad-nodes.tsv # time, node, job, killed or preflight
killed_on=$(sed -n 's/^srun: error: \([^:]*\): task.*: \(Killed\|Aborted\|Segm\|Bus err\|Out Of\).*/\1/p' "$srun_log" | head -n 1)
if [ "$terminated" = no ] && [ -n "$killed_on" ]; then
    printf '%s\t%s\t%s\tkilled\n' "$(date +%s)" "$killed_on" "$job" >>"$strikes"
fi

# Avoid nodes with two strikes or one failed pre-flight within a day; at most four, so that the job can still start.
nodes_to_avoid() {
    tail -n 100 "$strikes" 2>/dev/null | awk -F '\t' -v since=$(($(date +%s) - 86400)) '
        $1 > since { strikes[$2] += $4 == "preflight" ? 2 : 1; last[$2] = NR }
        END { for (node in strikes) if (strikes[node] >= 2) print last[node], node }' |
        sort -rn | head -n 4 | cut -d " " -f 2 | paste -sd ,
}

# The attempts of Ray have been judged by the limits already, one by one (hpctrain/launch/pod.py).
judged=no number=$restart
if [ "${runs_ray:-no}" != no ]; then
    read -r recorded number said < <(attempts_on_record)
    if [ "$recorded" -gt "$recorded_before" ]; then judged=yes; else number=$((number + 1)); fi
fi

if [ "$terminated" = yes ]; then
    followed=terminated
elif [ "$judged" = yes ] && [ "$said" != requeued- ]; then
    followed=${said%-}
elif [ "$code" = 0 ]; then
    followed=finished
elif [ -n "$failed_with" ]; then
    followed=failed code=$failed_with
elif [ "$requeue" != yes ]; then
    followed=requeue-is-off
elif [ "$judged" = no ] && [ $((number + 1)) -ge "$max_attempts" ]; then
    followed=too-many-attempts
elif [ "$judged" = no ] && [ "$(attempts_without_progress)" -ge "$max_attempts_without_progress" ]; then
    followed=no-progress
else
    followed=requeued # code 75: the ranks saved and ask for it; any other code: a rank, its node or srun died
fi
# What the first node of Ray wrote for its last attempt stays, unless this script decides otherwise: a later line counts.
if [ "$judged" = no ] || [ "$followed-" != "$said" ]; then
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' \
        "$(date +%s)" "$job" "$number" "$code" "$before" "$after" "$followed" >>"$history"
fi
echo "hpctrain: job $job, restart $restart ended with code $code, newest checkpoint: $after; $followed"

if [ "$followed" = requeued ]; then
    for pause_s in 5 20 60 120 0; do
        ask_slurm
        if [ "$restarts" -gt "$restart" ]; then break; fi # Slurm has requeued the job itself
        if scontrol requeue "$job"; then
            # A requeued job waits two minutes for old credentials to expire, unless it gets a start time while Slurm
            # still cleans up the ended attempt. After code 78 (too hot) the job waits these two minutes to cool down.
            if [ "$code" = 78 ]; then start_in=120; else start_in=10; fi
            scontrol update JobId="$job" StartTime=now+$start_in
            # Slurm has shortened the time limit to that of the hole, and would keep it for the next attempt.
            if [ -n "$longest_slice" ]; then scontrol update JobId="$job" TimeLimit="$longest_slice"; fi
            avoid=$(nodes_to_avoid)
            if [ -n "$avoid" ]; then
                given=$(scontrol show job "$job" -o | sed -n 's/.* ExcNodeList=\([^ ]*\).*/\1/p')
                if [ "$given" = "(null)" ]; then given=; fi
                scontrol update JobId="$job" ExcNodeList="$avoid${given:+,$given}"
                echo "hpctrain: the next attempt avoids $avoid (attempts/bad-nodes.tsv)"
            fi
            break
        fi
        sleep "$pause_s"
    done
fi
if [ -n "$beside_pid" ]; then # it has seen the line in the history; its last message takes seconds
    for _ in {1..60}; do
        kill -0 "$beside_pid" 2>/dev/null || break
        sleep 0.5
    done
    kill -KILL "$beside_pid" 2>/dev/null
fi
wait # for the ranks; Slurm kills those that hang
exit "$code"
