package losses_test

// relationRefused are settings that the losses on relations must refuse.
var relationRefused = map[string][]setting{}
