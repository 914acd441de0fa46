package losses_test

// ownRefused are settings that the losses published here must refuse.
var ownRefused = map[string][]setting{}
