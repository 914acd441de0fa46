package losses

// logitRows are the losses on logits and labels.
var logitRows = []Row{
	{Name: "ce", Doc: "cross-entropy with the labels, or with the teacher's probabilities", Source: "label smoothing: Szegedy et al. 2016, arXiv:1512.00567",
		Weight: 1, New: func() Loss { return &CE{Targets: "labels"} }},
	{Name: "kd", Doc: "softened divergence from the teacher", Source: "Hinton et al. 2015, arXiv:1503.02531",
		Weight: 1, New: func() Loss { return &KD{Temperature: 4} }},
	{Name: "dkd", Doc: "decoupled divergence: of the label's class, and of the others", Source: "Zhao et al. 2022, arXiv:2203.08679",
		Weight: 1, New: func() Loss { return &DKD{Alpha: 1, Beta: 8, Temperature: 4, Warmup: 20} }},
	{Name: "nkd", Doc: "cross-entropy of the label's class, and of the others' normalised probabilities", Source: "Yang et al. 2023, arXiv:2303.13005",
		Weight: 1, New: func() Loss { return &NKD{Gamma: 1.5, Temperature: 1} }},
	{Name: "mlkd", Doc: "divergence at several temperatures, of samples, batch and classes", Source: "Jin et al. 2023, CVPR",
		Weight: 0.9, Relational: true, New: func() Loss { return &MLKD{Temperatures: []float64{2, 3, 4, 5, 6}} }},
	{Name: "dist", Doc: "correlation of probabilities between classes, and between samples", Source: "Huang et al. 2022, arXiv:2205.10536",
		Weight: 2, Relational: true, New: func() Loss { return &DIST{Beta: 1, Gamma: 1, Temperature: 1} }},
	{Name: "ctkd", Doc: "kd at a temperature that is trained against the student", Source: "Li et al. 2023, arXiv:2211.16231",
		Weight: 0.9, New: func() Loss { return &CTKD{Start: 1, Span: 20, Warmup: 10} }},
	{Name: "ofa", Doc: "cross-entropy of each stage of the student with the teacher, for networks of different kinds", Source: "Hao et al. 2023, arXiv:2310.19444",
		Weight: 1, Taps: Heads, Adapter: "ofa", New: func() Loss { return &OFA{Epsilon: 1, StageWeight: 1, Temperature: 1} }},
	{Name: "wkd_l", Doc: "transport of probabilities between classes, by the similarity of the teacher's classifier rows", Source: "Lv et al. 2024, arXiv:2412.08139",
		Weight: 1, New: func() Loss {
			return &WKDL{Gamma: 800, Temperature: 8, Lambda: 0.05, Iterations: 10, Kappa: 1, Decay: 150}
		}},
}
