package losses

// relationRows are the losses on how the samples of a batch relate.
var relationRows = []Row{}
