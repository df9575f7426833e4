# Sourced by table.sh: runs side by side, `jobs` of them at a time until `minutes` are over, each with its output in
# log.txt of its folder, spread over the GPUs that are there; on a CPU they divide the threads. One that fails leaves
# the others alone. A signal or the end of the minutes lets every run save a checkpoint and end; it can be resumed.
pids=() folders=() failed=() stopped=() finished=()  # the first two by slot
started=0 alive=0 slot=0 stopping=""
deadline=$(awk "BEGIN {printf \"%d\", 60 * ${minutes:-1000000}}")  # in seconds since this script began
# a GPU, or none, for each slot in turn
IFS=, read -ra devices <<<"${CUDA_VISIBLE_DEVICES-$(python -c 'import torch
print(*range(torch.cuda.device_count()), sep=",")')}"

# side_by_side FOLDER COMMAND ...: a run, as soon as there is a slot for it.
side_by_side() {
    local folder=$1 device=() threads=$(($(nproc) / jobs))
    shift
    threads=$((threads > 0 ? threads : 1))
    if [ -e "$folder/summary.json" ]; then say "kept" "$folder"; finished+=("$folder"); return; fi
    while look; [ "$alive" -eq "$jobs" ]; do sleep 1; done
    if [ -n "$stopping" ]; then return; fi
    mkdir -p "$folder"
    say "started" "$folder"
    if [ ${#devices[@]} -gt 0 ]; then device=("CUDA_VISIBLE_DEVICES=${devices[slot % ${#devices[@]}]}"); fi
    env OMP_NUM_THREADS="${OMP_NUM_THREADS:-$threads}" TORCHINDUCTOR_COMPILE_THREADS="$threads" "${device[@]}" \
        "$@" >>"$folder/log.txt" 2>&1 &
    pids[slot]=$! folders[slot]=$folder started=$((started + 1))
}

# wait_for_all: until no run is in progress.
wait_for_all() {
    while look; [ "$alive" -gt 0 ]; do sleep 1; done
}

# look: say how the runs did that have ended since. Sets `alive`, the number of the others, and `slot`, a free one.
look() {
    local i
    alive=0 slot=""
    if [ -z "$stopping" ] && [ "$SECONDS" -ge "$deadline" ]; then stop "the time is over"; fi
    for ((i = 0; i < ${jobs:-0}; i++)); do
        if [ -n "${pids[i]:-}" ] && ! kill -0 "${pids[i]}" 2>/dev/null; then ended "$i"; fi
        if [ -n "${pids[i]:-}" ]; then alive=$((alive + 1)); else slot=${slot:-$i}; fi
    done
}

# ended SLOT: the run there is over: how?
ended() {
    local folder=${folders[$1]} status=0
    wait "${pids[$1]}" || status=$?
    unset "pids[$1]"
    if [ "$status" -eq 0 ]; then
        say "finished" "$folder: $(result "$folder/log.txt")"
        finished+=("$folder")
    elif [ -n "$stopping" ] && [ "$status" -gt 128 ]; then
        say "stopped" "$folder"
        stopped+=("$folder")
    else
        say "failed" "$folder with status $status: $(tail -n 1 "$folder/log.txt")"
        failed+=("$folder")
    fi
}

# result LOG: what a run came to.
result() {
    { grep 'superposed: test' "$1" || grep 'test accuracy' "$1"; } | tail -n 1 | sed 's/^ *//'
}

# stop [WHY]: start no more runs, and end those in progress.
stop() {
    stopping=yes
    say "stopping" "${1:-by a signal}: runs in progress save a checkpoint"
    if [ ${#pids[@]} -gt 0 ]; then kill -TERM "${pids[@]}" 2>/dev/null || true; fi
}
trap stop INT TERM HUP

say() { printf '%s  %-9s %s\n' "$(date +%T)" "$@"; }
