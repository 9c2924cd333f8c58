import DLC
import Testing

/// What a function gives for inputs and state, by the names of its outputs.
func results(
  _ inputs: [String: Tensor] = [:], state: [String: Tensor] = [:],
  _ body: (FunctionBuilder) -> Void
) throws -> [String: Tensor] {
  var module = Module("example")
  module.dimension("n", default: 2)
  try module.function("f", body)
  let executable = try Compiler().compile(module)
  try executable.setState(state)
  try executable.initializeState(seed: 1)
  let results = try executable.run(inputs)
  return Dictionary(uniqueKeysWithValues: results.map { ($0.name, $0.value) })
}

/// Numbers in float32.
func floats(_ shape: [Int], _ numbers: [Float]) -> Tensor { Tensor(shape, numbers) }

@Suite struct BuilderExamples {
  @Test func value() throws {
    let results = try results(["x": floats([2, 3], [1, -2, 3, 0, 1, 1])]) { g in
      // example: DLCGraph/Builder.swift: public struct Value
      let x = g.input("x", .float32, ["n", 3])
      let slope = g.select(x > 0, x, x * 0.5)
      g.output("y", slope - g.sum(x, axes: [1], keepAxes: true))  // [n, 3]
      // end
    }
    #expect(results["y"] == floats([2, 3], [-1, -3, 1, -2, -1, -1]))
  }

  @Test func functionBuilder() throws {
    let results = try results(["x": floats([2, 3], [1, 1, 1, 0, 0, 0])]) { g in
      // example: DLCGraph/Builder.swift: public final class FunctionBuilder
      let x = g.input("x", .float32, ["n", 3])
      let hidden = g.tanh(g.linear(x, g.parameter("w", [8, 3])))  // [n, 8]
      g.output("y", g.mean(hidden * hidden + 1, axes: [-1]))  // [n]
      // end
    }
    #expect(results["y"]?.shape == [2])
    #expect(results["y"]?[1].scalar == 1)
  }

  @Test func input() throws {
    let inputs = [
      "image": floats([2, 1, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8]), "label": Tensor([2], [Int32(3), 4]),
      "scale": floats([], [2]),
    ]
    let results = try results(inputs) { g in
      // example: DLCGraph/BuilderArguments.swift: public func input(
      let image = g.input("image", .float32, ["n", 1, 2, 2])
      let label = g.input("label", .int32, ["n"])
      let scale = g.input("scale")  // a float32 scalar
      // end
      g.output("image", image * scale)
      g.output("label", label)
    }
    #expect(results["image"]?.doubles == [2, 4, 6, 8, 10, 12, 14, 16])
    #expect(results["label"]?.integers == [3, 4])
  }

  @Test func parameter() throws {
    let state = ["w": floats([2, 3], [1, 0, 0, 0, 1, 1])]
    let results = try results(["x": floats([2, 3], [1, 2, 3, 4, 5, 6])], state: state) { g in
      // example: DLCGraph/BuilderArguments.swift: public func parameter(
      let w = g.parameter("w", [2, 3])
      let b = g.parameter("b", [2], .constant(10))
      g.output("y", g.linear(g.input("x", .float32, ["n", 3]), w, b))
      // end
    }
    #expect(results["y"]?.doubles == [11, 15, 14, 21])
  }

  @Test func update() throws {
    var module = Module("counter")
    try module.function("count") { g in
      // example: DLCGraph/BuilderArguments.swift: public func update(
      let count = g.state("count", .int32)
      g.update("count", count + 1)
      g.output("count", count)  // 0, 1, 2, ... from run to run
      // end
    }
    let executable = try Compiler().compile(module)
    try executable.initializeState(seed: 1)
    for number in 0..<3 { #expect(try executable.run([:])[0].value.integers == [Int64(number)]) }
  }

  @Test func linear() throws {
    let inputs = [
      "x": floats([2, 3], [1, 2, 3, 4, 5, 6]), "w": floats([1, 3], [1, 1, 1]),
      "b": floats([1], [0.5]),
    ]
    let results = try results(inputs) { g in
      // example: DLCGraph/BuilderFunctions.swift: public func linear(
      let x = g.input("x", .float32, ["n", 3])
      let (w, b) = (g.input("w", .float32, [1, 3]), g.input("b", .float32, [1]))
      g.output("y", g.linear(x, w, b))  // [n, 1]
      // end
    }
    #expect(results["y"] == floats([2, 1], [6.5, 15.5]))
  }

  @Test func convolution() throws {
    let results = try results(["x": Tensor(zeros: .float32, [2, 1, 28, 28])]) { g in
      // example: DLCGraph/BuilderOperations.swift: public func convolution(
      let x = g.input("x", .float32, ["n", 1, 28, 28])
      let kernel = g.parameter("k", [8, 1, 3, 3])
      g.output("y", g.convolution(x, kernel, strides: [2, 2], padding: [(1, 1), (1, 1)]))
      // end
    }
    #expect(results["y"] == Tensor(zeros: .float32, [2, 8, 14, 14]))
  }

  @Test func attention() throws {
    let x = floats([2, 2, 1], [1, 2, 3, 4])
    let results = try results(["q": x, "k": x, "v": x]) { g in
      // example: DLCGraph/BuilderFunctions.swift: public func attention(
      let shape: [Size] = ["n", 2, 1]
      let (q, k) = (g.input("q", .float32, shape), g.input("k", .float32, shape))
      let v = g.input("v", .float32, shape)
      g.output("y", g.attention(q, k, v, causal: true))  // [n, 2, 1]
      // end
    }
    // The first position sees itself alone.
    #expect(results["y"]?[0, 0, 0].scalar == 1)
    #expect(results["y"]?[1, 0, 0].scalar == 3)
  }

  @Test func scan() throws {
    let results = try results(["x": floats([4], [1, 2, 3, 4])]) { g in
      // example: DLCGraph/BuilderControl.swift: public func scan(
      let x = g.input("x", .float32, [4])
      let (last, all) = g.scan(carried: [g.constant(0)], inputs: [x]) { g, carried, inputs in
        let sum = carried[0] + inputs[0]
        return (carried: [sum], outputs: [sum])
      }
      g.output("total", last[0])
      g.output("sums", all[0])  // [4]
      // end
    }
    #expect(results["total"]?.scalar == 10)
    #expect(results["sums"]?.doubles == [1, 3, 6, 10])
  }

  @Test func whileLoop() throws {
    let results = try results(["x": floats([], [12])]) { g in
      // example: DLCGraph/BuilderControl.swift: public func whileLoop(
      let x = g.input("x")
      let halved = g.whileLoop([x], bound: 100) { g, carried in
        carried[0] >= 1
      } body: { g, carried in
        [carried[0] / 2]
      }
      g.output("y", halved[0])
      // end
    }
    #expect(results["y"]?.scalar == 0.75)
  }

  @Test func cond() throws {
    for isSquared in [true, false] {
      let inputs = ["x": floats([2], [2, 3]), "is_squared": Tensor([], [isSquared])]
      let results = try results(inputs) { g in
        // example: DLCGraph/BuilderControl.swift: public func cond(
        let x = g.input("x", .float32, [2])
        let isSquared = g.input("is_squared", .bool)
        let y = g.cond(isSquared) { g in
          [x * x]
        } otherwise: { g in
          [x]
        }
        g.output("y", y[0])
        // end
      }
      #expect(results["y"]?.doubles == (isSquared ? [4, 9] : [2, 3]))
    }
  }

  @Test func gradient() throws {
    let results = try results(["x": floats([3], [1, 2, 3])]) { g in
      // example: DLCAutodiff/Gradient.swift: public func gradient(
      let x = g.input("x", .float32, [3])
      let y = g.sum(x * x * x, axes: [0])
      g.output("d_x", g.gradient(of: y, by: [x])[0])  // 3 x^2
      // end
    }
    #expect(results["d_x"]?.doubles == [3, 12, 27])
  }

  @Test func call() throws {
    var module = Module("generator")
    module.dimension("n", default: 8)
    // example: DLCGraph/BuilderCalls.swift: public func call(
    try module.function("decode") { g in
      g.output("image", g.input("z", .float32, ["n", 2]) * 2)
    }
    try module.function("sample") { g in
      let z = RandomStream(g, key: g.input("seed", .int64)).normal([16, 2])
      g.output("images", g.call("decode", ["z": z])["image"])  // [16, 2]
    }
    // end
    let sample = try Compiler().compile(module, function: "sample")
    #expect(try sample.run(["seed": Tensor([], [Int64(1)])])[0].value.shape == [16, 2])
  }

  @Test func softmaxCrossEntropy() throws {
    let inputs = ["logits": floats([2, 2], [0, 0, 0, 0]), "labels": Tensor([2], [Int32(0), 1])]
    let results = try results(inputs) { g in
      // example: DLCTraining/Losses.swift: public func softmaxCrossEntropy(
      let logits = g.input("logits", .float32, ["n", 2])
      let labels = g.input("labels", .int32, ["n"])
      g.output("loss", g.softmaxCrossEntropy(logits, labels))
      // end
    }
    #expect(abs(results["loss"]!.scalar - 0.6931472) < 1e-6)
  }

  @Test func dropout() throws {
    let inputs = [
      "x": floats([2, 8], [Float](repeating: 1, count: 16)), "seed": Tensor([], [Int64(1)]),
    ]
    let results = try results(inputs) { g in
      // example: DLCTraining/Normalization.swift: public func dropout(
      let x = g.input("x", .float32, ["n", 8])
      let random = RandomStream(g, key: g.input("seed", .int64))
      g.output("y", g.dropout(x, rate: 0.5, random))  // zeros and twice x
      // end
    }
    #expect(Set(results["y"]!.doubles) == [0, 2])
  }

  @Test func randomStream() throws {
    let results = try results(["seed": Tensor([], [Int64(7)])]) { g in
      // example: DLCGraph/BuilderRandom.swift: public final class RandomStream
      let random = RandomStream(g, key: g.input("seed", .int64))
      g.output("noise", random.normal(["n", 3]))
      g.output("coins", random.bernoulli(g.constant(0.5, .float32, [100])))  // bool
      // end
    }
    #expect(results["noise"]?.shape == [2, 3])
    #expect((20...80).contains(results["coins"]!.doubles.reduce(0, +)))
  }
}
