# Sourced by the scripts of the papers' tables and figures, with the paper's number of epochs and their own options:
#
#     --data-dir DIR     the data: DIR/cifar10 and DIR/cifar100 where there are such folders, else DIR itself
#     --epochs N         a shorter version: whatever the paper gives in epochs scales with it
#     --seeds "0 1 2"    which runs of every row
#     --data NAME --model NAME    in place of all those of the table
#     --others DIR       other images to evaluate by: DIR/CIFAR-10-C, CIFAR-100-C, ImageNet-C, imagenet-a, svhn ... What is
#                        not there comes from the Hub, or is left out: corrupted images and ImageNet-A
#     --output-dir DIR   where the rows are (runs/papers; with --epochs runs/papers-N-epochs)
#     --jobs N           N runs side by side, with a line when one starts or ends and its output in log.txt of its
#                        folder; the others go on where one fails. Not for ImageNet, where a run takes all GPUs
#     --minutes M        after M minutes runs in progress save a checkpoint and end, to be gone on with
#     --dry-run          show the commands, run none
#
# and any option of main_cifar.py or main_imagenet.py, e.g. --limit-train 2000 --batch-size 64 --mixed-precision bf16.
# A row has a folder that is named by what it trains, so tables share their rows: what is finished is kept, what was
# interrupted goes on.
set -euo pipefail
table=$(basename "$0" .sh)
paper=$1 epochs=$1
shift

: "${seeds:=0 1 2}"
only_data="" only_model="" data_dir="" others="" output="" dry="" jobs="" minutes="" options=() test_options=() rows=() trained=()
while [ $# -gt 0 ]; do
    case $1 in
        --help) awk '/^#!/ {next} !/^#/ {nextfile} {sub(/^# ?/, ""); print}' "$0" "${BASH_SOURCE[0]}"; exit ;;
        --dry-run) dry=yes; shift; continue ;;
        --data) only_data=$2 ;;
        --model) only_model=$2 ;;
        --data-dir) data_dir=$(realpath "$2") ;;
        --epochs) epochs=$2 ;;
        --seeds) seeds=$2 ;;
        --jobs) jobs=$2 ;;
        --minutes) minutes=$2 jobs=${jobs:-1} ;;
        --others) others=$(realpath "$2") ;;
        --output-dir) output=$(realpath -m "$2") ;;
        --limit-test) options+=("$1" "$2") test_options=("$1" "$2") ;;
        *) options+=("$1"); shift; continue ;;
    esac
    shift 2
done
wrong() { echo "$table: $1" >&2; exit 2; }
if [[ ! ${jobs:-1} =~ ^[1-9][0-9]{0,3}$ ]]; then wrong "--jobs $jobs is not a number from 1 to 9999"; fi
if [[ ! ${minutes:-1} =~ ^[0-9]{1,6}([.][0-9]+)?$ ]]; then wrong "--minutes $minutes is not a number of minutes"; fi
runs=runs/papers
if [ "$epochs" != "$paper" ]; then runs=runs/papers-$epochs-epochs; fi
runs=${output:-$runs}

gpus="" batch=128  # images per optimizer step on ImageNet
if [ -n "$dry" ]; then gpus=1 jobs=""; else source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"; fi
if [ -n "$jobs" ]; then source launch/jobs.sh; fi

# N of the paper's epochs, scaled to --epochs
scaled() {
    local n=$(((2 * $1 * epochs + paper) / (2 * paper)))
    echo $((n > 0 ? n : 1))
}

# options of a row: sparse METHOD DENSITY, sup CYCLE_EPOCHS TICKETS, edst TICKETS (on CIFAR), efficient ENSEMBLE MEMBERS
sparse() { echo --sparse --method "$1" --density "$2"; }
sup() { echo --sup-tickets --cycle-epochs "$(scaled "$1")" --num-tickets "$2" --save-tickets; }
edst() { echo --edst --num-tickets "$1" --epochs "$(scaled $((150 + 100 * $1)))"; }
efficient() { echo --efficient-ensemble "$1" --members "$2"; }

# cifar DATA MODEL [OPTION ...]: a row of the table. SEED in an option stands for the seed; before a row, `apart=1000`
# makes the seeds of its runs 1000, 1001 ... instead: they share no weights, connections or order of images with SEED's.
cifar() {
    local data=${only_data:-$1} model=${only_model:-$2}
    shift 2
    find_data "$data"
    train "$data-$model" "python main_cifar.py --data $data --model $model" "$@"
}

# find_data DATA: sets `place`, where it is.
find_data() {
    place=(${data_dir:+--data-dir "$data_dir"})
    if [ -n "$data_dir" ] && [ -d "$data_dir/$1" ]; then place=(--data-dir "$data_dir/$1"); fi
}

# with_and_without MODEL METHOD ...: rows of each method, and the same with Sup-tickets, as in Tables 1, 2 and 9.
with_and_without() {
    local model=$1 data method density
    shift
    for data in cifar10 cifar100; do
        for method in "$@"; do
            for density in 0.05 0.1 0.2; do
                cifar $data $model $(sparse $method $density)
                cifar $data $model $(sparse $method $density) $(sup 8 3)
            done
        done
    done
}

# imagenet [OPTION ...]: a row with ResNet-50 on ImageNet, on all GPUs of this machine.
imagenet() {
    local launcher=python model=${only_model:-resnet50} jobs=""
    : "${gpus:=$(python -c 'import torch; print(max(torch.cuda.device_count(), 1))')}"
    if [ "$gpus" -gt 1 ]; then launcher="torchrun --standalone --nproc-per-node $gpus"; fi
    place=(${only_data:+--data "$only_data"} ${data_dir:+--data-dir "$data_dir"})
    train "imagenet-$model" "$launcher main_imagenet.py --model $model --batch-size $((batch / gpus))" "$@"
}

# superposed [OPTION ...]: the tickets of the row before superposed in another way, in full precision and without
# training again: a row too.
superposed() {
    local run to seed
    if [ -n "$jobs" ]; then wait_for_all; fi
    for seed in $seeds; do
        run=$row/seed-$seed to=$row/seed-$seed/superpositions/$(words "$@")
        if [ -e "$to.json" ]; then continue; fi
        if [ -n "$jobs" ] && [ ! -e "$run/summary.json" ]; then continue; fi
        if [ -z "$dry" ]; then mkdir -p "${to%/*}"; fi
        show python -m utils.superpose --tickets "$run"/tickets/ticket-*.safetensors "$@" --evaluate \
            "${place[@]}" "${test_options[@]}" --output "$to.safetensors" --overwrite --json "$to.json"
    done
}

# evaluated [OPTION ...]: the row before, an ensemble or a single network, evaluated by other images: its numbers go into
# the summaries of its runs, and so into the table.
evaluated() {
    local run to seed tickets
    if [ -n "$jobs" ]; then wait_for_all; fi
    for seed in $seeds; do
        run=$row/seed-$seed to=$row/seed-$seed/evaluations/$(words "${1#--}").json
        if [ -e "$to" ]; then continue; fi
        if [ -n "$jobs" ] && [ ! -e "$run/summary.json" ]; then continue; fi
        if [ -z "$dry" ]; then mkdir -p "${to%/*}"; fi
        networks "$run"
        show python -m utils.evaluate --tickets "${tickets[@]}" "$@" \
            "${place[@]}" "${test_options[@]}" --json "$to" --summary "$run/summary.json"
    done
}

# networks RUN: sets `tickets`, those of all networks where it is an ensemble.
networks() {
    local row=${1%/*}
    case ${row##*/} in
        *-ensemble-*) tickets=("$1"/member-*/ticket.safetensors) ;;
        *edst*) tickets=("$1"/tickets/ticket-*.safetensors) ;;
        *) tickets=("$1/ticket.safetensors") ;;
    esac
}

# drawn NAME ROW ...: a picture of utils.picture for every seed, of the networks of all these rows.
drawn() {
    local name=$1 seed to run missing tickets all
    if [ -n "$jobs" ]; then wait_for_all; fi
    for seed in $seeds; do
        to=$runs/$table-seed-$seed all=() missing=""
        for run in "${@:2}"; do
            run=$run/seed-$seed
            networks "$run"
            all+=("${tickets[@]}")
            if [ ! -e "$run/summary.json" ]; then missing=yes; fi
        done
        if [ -e "$to.png" ] || { [ -n "$jobs" ] && [ -n "$missing" ]; }; then continue; fi
        show python -m utils.picture "$name" --tickets "${all[@]}" "${place[@]}" "${test_options[@]}" \
            --output "$to.png" --json "$to.json"
    done
}

# with_other OPTION NAME: `evaluated OPTION DIR/NAME`, where --others DIR has such a folder.
with_other() {
    if [ -n "$others" ] && { [ -d "$others/$2" ] || [ -n "$dry" ]; }; then evaluated "$1" "$others/$2"; fi
}

# out_of NAME ...: the row before, evaluated by how well it tells its test images from these data sets.
out_of() {
    local name sets=()
    for name in "$@"; do sets+=("$name$([ -z "$others" ] || [ ! -d "$others/$name" ] || echo "=$others/$name")"); done
    evaluated --ood "${sets[@]}"
}

# report [OPTION ...]: the table of all rows, the paper's figures in it, on the screen and beside them. FLOPs are relative
# to a dense training of all epochs, or before it `dense=N` of others; `figures=no` leaves the paper's out.
report() {
    local paper=()  # the figures of the paper, which are of runs and not of layers
    if [[ $table =~ ^(sup|free)_table0?([0-9]+) ]] && [ "$*" != --layers ] && [ "${figures:-}" != no ]; then
        paper=(--paper "${BASH_REMATCH[1]}${BASH_REMATCH[2]}")
    fi
    if [ -n "$jobs" ]; then finished_rows; fi
    show python -m utils.report "${rows[@]}" --dense-epochs "${dense:-$epochs}" \
        --csv "$runs/$table.csv" --plot "$runs/$table.png" "${paper[@]}" "$@"
    if [ -n "$jobs" ] && [ ${#failed[@]} -gt 0 ]; then exit 1; fi
}

# finished_rows: with --jobs, wait for the end and leave in `rows` what there is to report.
finished_rows() {
    local row known=("${rows[@]}")
    wait_for_all
    for row in "${failed[@]}"; do say "failed" "$row: see its log.txt"; done
    for row in "${stopped[@]}"; do say "to resume" "$row: the same command goes on with it"; done
    rows=()
    for row in "${known[@]}"; do if compgen -G "$row/*/summary.json" >/dev/null; then rows+=("$row"); fi; done
    if [ ${#rows[@]} -eq 0 ]; then say "no run" "is finished: there is nothing to report"; exit 1; fi
}

# train NAME COMMAND [OPTION ...]: with every seed, unless a row before was the same.
train() {
    local name=$1 command=$2 seed own start
    shift 2
    if [[ " $* " != *" --sparse "* ]]; then name=$name-dense; fi
    if [[ " $* " != *" --epochs "* ]]; then set -- "$@" --epochs "$epochs"; fi
    row=$(words "$@")
    row=$runs/$name${row:+-$row}
    if [[ " ${rows[*]} " != *" $row "* ]]; then rows+=("$row"); fi
    if [ -n "$jobs" ] && [[ "$*" == *SEED* ]]; then wait_for_all; fi  # it reads other runs
    for seed in $seeds; do
        own=$((seed + ${apart:-0}))
        if [[ " ${trained[*]} " == *" $row/seed-$own "* ]]; then continue; fi
        trained+=("$row/seed-$own")
        start=(show)
        if [ -n "$jobs" ]; then start=(side_by_side "$row/seed-$own"); fi
        "${start[@]}" $command "${@//SEED/$seed}" "${place[@]}" "${options[@]}" \
            --seed "$own" --resume auto --output-dir "$row/seed-$own"
    done
}

# Options as the name of a folder: no files, and nothing that goes without saying.
words() {
    sed -E "s/--epochs $epochs //; s/--(sparse|method|density|save-tickets) //g; s# [^ ]*/[^ ]*##g
        s/--sup-tickets --cycle-epochs ([0-9]+) --num-tickets ([0-9]+)/sup-\2x\1/
        s/--efficient-ensemble ([^ ]+) --members/\1/
        s/--|[*]//g; s/ +\$//; s/ +/-/g" <<<"$* "
}

show() {
    printf '%q ' "$@"
    echo
    if [ -z "$dry" ]; then "$@"; fi
}
