// Package nn holds layers for anything trainable: each names its parameters as PyTorch does, declares them in the graph and
// applies operators to them.
//
//	x = nn.Conv{Name: "conv1", In: 3, Out: 16, Kernel: 3, Pad: 1}.Apply(g, x)
//	x = op.Relu(nn.BatchNorm{Name: "bn1", Channels: 16}.Apply(g, x))
package nn
