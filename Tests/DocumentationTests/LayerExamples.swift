import DLC
import Testing

@Suite struct LayerExamples {
  @Test func layers() throws {
    let results = try results(["x": Tensor(zeros: .float32, [2, 1, 8, 8])]) { g in
      // example: DLCTraining/Layers.swift: public struct Layers
      let l = Layers(g)
      let x = g.input("x", .float32, ["n", 1, 8, 8])
      let h = g.maxPool(g.relu(l.convolution("c1", x, 4, kernel: 3, padding: 1)), window: [2, 2])
      g.output("logits", l.linear("out", g.reshape(h, ["n", 64]), 10))
      // end
    }
    #expect(results["logits"]?.shape == [2, 10])
  }

  @Test func linear() throws {
    let state = ["out.w": floats([1, 4], [1, 1, 1, 1]), "out.b": floats([1], [2])]
    let results = try results(["x": floats([2, 4], [1, 2, 3, 4, 0, 0, 0, 0])], state: state) { g in
      // example: DLCTraining/Layers.swift: public func linear(
      let x = g.input("x", .float32, ["n", 4])
      g.output("y", Layers(g).linear("out", x, 1))  // parameters out.w [1, 4], out.b [1]
      // end
    }
    #expect(results["y"]?.doubles == [12, 2])
  }

  @Test func convolution() throws {
    let results = try results(["x": Tensor(zeros: .float32, [2, 3, 8, 8])]) { g in
      // example: DLCTraining/Layers.swift: public func convolution(
      let x = g.input("x", .float32, ["n", 3, 8, 8])
      g.output("y", Layers(g).convolution("c", x, 16, kernel: 3, stride: 2, padding: 1))
      // end
    }
    #expect(results["y"]?.shape == [2, 16, 4, 4])
  }

  @Test func selfAttention() throws {
    let results = try results(["x": Tensor(zeros: .float32, [2, 6, 8])]) { g in
      // example: DLCTraining/AttentionLayers.swift: public func selfAttention(
      let x = g.input("x", .float32, ["n", 6, 8])
      g.output("y", Layers(g).selfAttention("attention.", x, heads: 2, causal: true))
      // end
    }
    #expect(results["y"]?.shape == [2, 6, 8])
  }

  @Test func recurrent() throws {
    let results = try results(["x": Tensor(zeros: .float32, [5, 2, 3])]) { g in
      // example: DLCTraining/RecurrentLayers.swift: public func recurrent(
      let x = g.input("x", .float32, [5, "n", 3])  // time comes first
      g.output("h", Layers(g).recurrent("lstm", .lstm, x, size: 4, layers: 2))  // [5, n, 4]
      // end
    }
    #expect(results["h"]?.shape == [5, 2, 4])
  }

  @Test func optimizerStep() throws {
    let inputs = ["theta", "d", "v"].map { ($0, floats([2], [1, 2])) }
    let results = try results(Dictionary(uniqueKeysWithValues: inputs)) { g in
      // example: DLCTraining/Optimizer.swift: public func step(
      let (theta, d) = (g.input("theta", .float32, [2]), g.input("d", .float32, [2]))
      let v = g.input("v", .float32, [2])
      let rule = Optimizer.momentum(beta: 0.5, dampening: 0)
      let next = rule.step(
        theta, gradient: d, ["v": v], lr: g.constant(2), t: g.constant(1, .int32))
      g.output("theta_next", next.theta)
      g.output("v_next", next.slots["v"]!)
      // end
    }
    #expect(results["v_next"]?.doubles == [1.5, 3])
    #expect(results["theta_next"]?.doubles == [-2, -4])
  }
}
