# Sourced: the rows of Tables 1, 2 and 4 of FreeTickets, Wide ResNet28-10 on a data set; after each, what is given more.
ensembles() {
    local data=$1 after=("${@:2}")
    ensemble
    ensemble $(efficient mc-dropout 1)
    ensemble $(efficient mimo 3)
    ensemble $(sparse rigl 0.2) $(edst 3)
    ensemble $(sparse rigl 0.1) $(edst 7)
    ensemble $(efficient treenet 3)
    ensemble $(efficient batchensemble 4)
    cifar $data wrn28-10 $(sparse gmp 0.2) --save-early 0.05 # the run that the next one rewinds
    ensemble $(sparse static 0.2) --rewind "$row/seed-SEED" --ensemble 3
    ensemble $(sparse static 0.2) --ensemble 3
    ensemble $(sparse pf 0.2) --epochs $(scaled 500) --ensemble 3
    ensemble $(sparse rigl 0.2) --ensemble 3
    ensemble --ensemble 4
}

ensemble() {
    cifar $data wrn28-10 "$@"
    "${after[@]}"
}
