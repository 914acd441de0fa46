package losses

// featureRows are the losses on feature maps.
var featureRows = []Row{
	{Name: "fitnets", Doc: "squared difference of a map from the teacher's, after a regressor",
		Source: "Romero et al. 2015, arXiv:1412.6550", Weight: 100, Taps: Last, Adapter: "convreg", New: func() Loss { return &FitNets{} }},
	{Name: "at", Doc: "attention transfer: where maps are large",
		Source: "Zagoruyko and Komodakis 2017, arXiv:1612.03928", Weight: 1000, Taps: Stages, New: func() Loss { return &AT{Variant: "code", P: 2} }},
	{Name: "nst", Doc: "neuron selectivity transfer: which pixels channels select",
		Source: "Huang and Wang 2017, arXiv:1707.01219", Weight: 50, Taps: Stages, New: func() Loss { return &NST{} }},
	{Name: "vid", Doc: "variational information distillation: likelihood of the teacher's maps",
		Source: "Ahn et al. 2019, arXiv:1904.05835", Weight: 1, Taps: Stages, New: func() Loss { return &VID{Variance: 5} }},
	{Name: "ofd", Doc: "distance from the teacher's maps before ReLU, with a margin; needs its batch norms",
		Source: "Heo et al. 2019, arXiv:1904.01866", Weight: 1e-3, Taps: Stages, New: func() Loss { return &OFD{} }},
	{Name: "reviewkd", Doc: "knowledge review: deeper maps help shallower ones",
		Source: "Chen et al. 2021, arXiv:2104.09044", Weight: 1, Taps: Stages, New: func() Loss { return &ReviewKD{Mid: 512, Pooled: true, Warmup: 20} }},
	{Name: "semckd", Doc: "each map with all of the teacher's, by learnt attention",
		Source: "Chen et al. 2021, arXiv:2012.03236", Weight: 400, Taps: Stages, Relational: true, New: func() Loss { return &SemCKD{Temperature: 1, Factor: 4} }},
	{Name: "cwd", Doc: "channel-wise distillation: divergence over the pixels of each channel",
		Source: "Shu et al. 2021, arXiv:2011.13256", Weight: 50, Taps: Last, Adapter: "auto", New: func() Loss { return &CWD{Temperature: 4} }},
	{Name: "pkd", Doc: "Pearson correlation of each channel with the teacher's",
		Source: "Cao et al. 2022, arXiv:2207.02039", Weight: 6, Taps: Stages, Adapter: "auto", Relational: true, New: func() Loss { return &PKD{} }},
}
