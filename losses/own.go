package losses

// ownRows are the losses that were first published here.
var ownRows = []Row{}
