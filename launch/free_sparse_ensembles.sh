# Sourced: the rows of Figure 2 and Table 7 of FreeTickets, sparse ensembles of Wide ResNet28-10 on CIFAR-100; after each,
# what is given.
sparse_ensembles() {
    local after=("$@")
    cifar cifar100 wrn28-10 $(sparse gmp 0.2) --save-early 0.05 # the run that the next one rewinds
    ensemble static --rewind "$row/seed-SEED" --ensemble 3
    ensemble rigl $(edst 3)
    ensemble static --ensemble 3
    ensemble rigl --ensemble 3
}

ensemble() {
    cifar cifar100 wrn28-10 $(sparse "$1" 0.2) "${@:2}"
    "${after[@]}"
}
