#!/usr/bin/env bash
# What a GPU makes of some minutes: VGG-16 on CIFAR-10 at 95 % sparsity by the paper's protocol, the most telling runs
# first: GraNet, GraNet with Sup-tickets (other seeds), dense, seed by seed; then RigL, SET and other densities. It
# measures how many runs side by side train most images per second, plain and compiled, starts as many runs as the
# minutes are enough for, and ends with their results and a table. What it could not finish, the same command goes on
# with.
#
#     bash launch/gpu_batch.sh --minutes 25 --data-dir CIFAR10
#     setsid nohup bash launch/gpu_batch.sh --minutes 25 --data-dir CIFAR10 --output-dir runs/batch >batch.log 2>&1 &
#
#     --minutes M        from the start of the script to its end, measuring and reporting included (25)
#     --no-measure       start without, with the --jobs N (4) and --compile given, until the minutes are over
#     --runs N           at most N runs
#
# and the options of table.sh:
#
minutes=25 measure=yes compile="" most=100000 side="" batch_size=128 precision=bf16 passed=()
while [ $# -gt 0 ]; do
    case $1 in
        --no-measure) measure=""; shift; continue ;;
        --compile) compile=--compile; shift; continue ;;
        --help | --dry-run) passed+=("$1"); shift; continue ;;
        --minutes) minutes=$2 ;;
        --runs) most=$2 ;;
        --jobs) side=$2 ;;
        --batch-size) batch_size=$2 ;;
        --mixed-precision) precision=$2 ;;
        *) passed+=("$1"); shift; continue ;;
    esac
    shift 2
done
set -- "${passed[@]}" --batch-size "$batch_size" --mixed-precision "$precision" --checkpoint-minutes 2
source "$(dirname "$0")/table.sh" 250 "$@" --jobs "${side:-4}" --minutes "$minutes"
if [[ ! $most =~ ^[1-9][0-9]{0,8}$ ]]; then wrong "--runs $most is not a positive whole number"; fi

# plan: sets `jobs`, `compile` and `planned` by what is measured, and says so.
plan() {
    local model=${only_model:-vgg16} data=${only_data:-cifar10} images rate kind
    find_data "$data"
    say "measuring" "images per second of runs side by side: $runs/parallel.json"
    mkdir -p "$runs"
    python main_cifar.py --data "$data" --model "$model" "${place[@]}" "${options[@]}" --epochs "$epochs" \
        --dry-run >"$runs/plan.txt" 2>&1 &
    local counting=$!
    python -m utils.benchmark parallel --model "$model" --batch-size "$batch_size" --mixed-precision "$precision" \
        --method granet --density 0.05 ${devices:+--compile} --json "$runs/parallel.json"
    wait $counting || { cat "$runs/plan.txt"; exit 2; }
    images=$(sed -nE 's/.*: ([0-9,]+) training and .*/\1/p' "$runs/plan.txt" | tr -d ,)
    read -r jobs kind planned rate < <(python - "$runs/parallel.json" $((deadline - SECONDS)) $((images * epochs)) <<'P'
import json, math, sys
(file, seconds, images), START, MARGIN, ALIKE = sys.argv[1:], 60, 0.92, 0.97  # s until a run trains, and safety
rates = {(rate, int(n), kind) for kind, row in json.load(open(file))["parallel"].items()
         for n, rate in row.items() if isinstance(rate, float)}
if not rates:
    sys.exit("nothing could be measured")
best = max(rates)[0]
rate, side, kind = min((r for r in rates if r[0] >= ALIKE * best), key=lambda r: (r[1], -r[0]))  # few finish sooner
runs = max(int(MARGIN * rate * max(int(seconds) - START, 0) / int(images)), 1)
side = math.ceil(runs / math.ceil(runs / side))  # so that the last ones are not alone
print(side, kind, runs, round(rate))
P
    ) || exit 2
    jobs=${side:-$jobs}
    if [ "$kind" = compiled ]; then compile=--compile; fi
    say "planned" "$planned runs, $jobs side by side, $kind: $rate images/s, $epochs epochs of $images images"
}

# telling [OPTION ...]: a row's run of this seed, as long as there is time for one more.
telling() {
    if [ "$started" -lt "$planned" ]; then cifar cifar10 vgg16 "$@"; fi
}

# pairs METHOD DENSITY [dense]: without and with Sup-tickets, whose runs share nothing, seed by seed.
pairs() {
    local every=$seeds seeds
    for seeds in $every; do
        telling $(sparse "$1" "$2")
        apart=1000 telling $(sparse "$1" "$2") $(sup 8 3)
        if [ -n "${3:-}" ]; then telling; fi
    done
}

planned=$most
: "${started:=0}"  # runs
if [ -z "$dry" ]; then
    deadline=$((deadline - (deadline < 300 ? deadline / 10 : 30)))  # the rest is for checkpoints, results and the table
    if [ -n "$measure" ]; then plan; fi
fi
if [ "$planned" -gt "$most" ]; then planned=$most; fi
options+=($compile)
pairs granet 0.05 dense
for at in "rigl 0.05" "set 0.05" "granet 0.1" "rigl 0.1" "granet 0.2" "rigl 0.2"; do pairs $at; done
if [ -z "$dry" ]; then
    wait_for_all
    for folder in "${finished[@]}"; do
        echo "$folder"
        sed -n '/^model  *accuracy/,$p' "$folder/log.txt"
    done
fi
report
