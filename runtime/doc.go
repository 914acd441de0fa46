// Package runtime is where models and programs run: the door to ONNX Runtime.
//
//	if err := runtime.Init(""); err != nil {
//		return err
//	}
//	s, err := runtime.NewSession(model, runtime.Options{})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	out, err := s.Run(map[string]graph.Tensor{"input": images})
package runtime
