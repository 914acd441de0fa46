package losses

// featureRows are the losses on inner tensors, sample by sample.
var featureRows = []Row{}
