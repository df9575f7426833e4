# Sourced: the rows of Tables 1, 2 and 4 of FreeTickets, Wide ResNet28-10 on a data set.
ensembles() {
    cifar $1 wrn28-10
    cifar $1 wrn28-10 $(sparse rigl 0.2) $(edst 3)
    cifar $1 wrn28-10 $(sparse rigl 0.1) $(edst 7)
    cifar $1 wrn28-10 $(sparse gmp 0.2) --save-early 0.05 # the run that the next one rewinds
    cifar $1 wrn28-10 $(sparse static 0.2) --rewind "$row/seed-SEED" --ensemble 3
    cifar $1 wrn28-10 $(sparse static 0.2) --ensemble 3
    cifar $1 wrn28-10 $(sparse pf 0.2) --epochs $(scaled 500) --ensemble 3
    cifar $1 wrn28-10 $(sparse rigl 0.2) --ensemble 3
    cifar $1 wrn28-10 --ensemble 4
}
