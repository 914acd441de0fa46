package losses_test

// featureRefused are settings that the losses on inner tensors must refuse.
var featureRefused = map[string][]setting{}
