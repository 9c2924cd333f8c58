import DLCGraph
import DLCReference
import DLCTensor
import DLCTestSupport
import DLCTraining
import Testing

@testable import DLCONNX

/// LSTM and GRU are written as the operators that ONNX has, where a scan is one.
@Suite struct RecurrentExportTests {
  private static let (steps, batch, width, size) = (4, 3, 5, 6)

  /// The types of a model's operators, after its results were compared with the interpreter's.
  private static func operators(
    _ inputs: [(String, [Int])], _ body: (FunctionBuilder, [Value]) -> [Value]
  ) throws -> [ONNXNode] {
    var module = Module("m")
    try module.function("forward") { g in
      let values = inputs.map { g.input($0.0, .float32, $0.1.map { Size($0) }) }
      for (index, value) in body(g, values).enumerated() { g.output("y\(index)", value) }
    }
    let arrays = Differential.arrays(
      inputs.map { TensorType(.float32, sizes: $0.1) }, range: -1...1, seed: 7)
    let named = Dictionary(uniqueKeysWithValues: zip(inputs.map(\.0), arrays))
    let want = try Interpreter().run(
      module, function: module.functions[0], inputs: named, states: [:], dimensions: [:]
    ).outputs
    let (model, results) = try ExportTests.roundTrip(module, named, opset: 21)
    for (got, want) in zip(results, want) {
      // A sum of at most 12 numbers of size 1, through a few steps.
      #expect(Differential.error(got.value, want.value, ulps: 64, scale: 1) <= 1)
    }
    return model.graph.nodes
  }

  private static func inputs(gates: Int) -> [(String, [Int])] {
    [
      ("x", [steps, batch, width]), ("wi", [gates * size, width]), ("wh", [gates * size, size]),
      ("bi", [gates * size]), ("bh", [gates * size]), ("h", [batch, size]), ("c", [batch, size]),
    ]
  }

  @Test(arguments: [true, false]) func lstmIsOneOperator(_ hasBias: Bool) throws {
    let nodes = try Self.operators(Self.inputs(gates: 4)) { g, v in
      let projected = hasBias ? g.linear(v[0], v[1], v[3]) : g.linear(v[0], v[1])
      let made = g.lstm(
        projected: projected, h0: v[5], c0: v[6], hidden: v[2], bias: hasBias ? v[4] : nil)
      return [made.all, made.h, made.c]
    }
    let layer = try #require(nodes.first { $0.type == "LSTM" })
    #expect(layer.inputs.count == 7 && layer.inputs[3].isEmpty != hasBias)
    #expect(!nodes.contains { ["Scan", "MatMul", "Add"].contains($0.type) })
  }

  @Test(arguments: [true, false]) func gruIsOneOperator(_ hasBias: Bool) throws {
    let nodes = try Self.operators(Self.inputs(gates: 3)) { g, v in
      let projected = hasBias ? g.linear(v[0], v[1], v[3]) : g.linear(v[0], v[1])
      let made = g.gru(projected: projected, h0: v[5], hidden: v[2], bias: hasBias ? v[4] : nil)
      return [made.all, made.last]
    }
    let layer = try #require(nodes.first { $0.type == "GRU" })
    guard case .integer(1)? = layer.attributes["linear_before_reset"] else {
      Issue.record("the builder's reset gate multiplies the product")
      return
    }
    #expect(!nodes.contains { ["Scan", "MatMul", "Add"].contains($0.type) })
  }

  /// Zeros at the start need no operand, and what else uses the projection keeps it.
  @Test func layersFollowEachOther() throws {
    let nodes = try Self.operators(Self.inputs(gates: 4)) { g, v in
      let zero = g.constant(0, .float32, [Size(Self.batch), Size(Self.size)])
      let projected = g.linear(v[0], v[1], v[3])
      let first = g.lstm(projected: projected, h0: zero, c0: zero, hidden: v[2], bias: v[4])
      let second = g.lstm(
        projected: g.linear(first.all, v[2]), h0: first.h, c0: first.c, hidden: v[2], bias: nil)
      return [second.all, projected]
    }
    let layers = nodes.filter { $0.type == "LSTM" }
    #expect(layers.map(\.inputs.count) == [4, 7])
    #expect(!nodes.contains { $0.type == "Scan" })
    #expect(nodes.filter { $0.type == "MatMul" }.count == 1)
  }

  /// A layer of ONNX that was imported goes out as it came.
  @Test(arguments: ["LSTM", "GRU"], [0, 1]) func importedLayersGoBack(_ type: String, _ late: Int)
    throws
  {
    let gates = type == "LSTM" ? 4 : 3
    var attributes: [String: ONNXAttribute] = ["hidden_size": .integer(Self.size)]
    if type == "GRU" { attributes["linear_before_reset"] = .integer(late) }
    let layer = node(type, ["x", "w", "r", "b"], ["y"], attributes)
    let sizes = [
      "x": [Self.steps, Self.batch, Self.width], "w": [1, gates * Self.size, Self.width],
      "r": [1, gates * Self.size, Self.size], "b": [1, 2 * gates * Self.size],
    ]
    let source = model(
      sizes.keys.sorted().map { ($0, .float32, sizes[$0]!.map { .size($0) }) }, ["y"], [layer])
    let names = sizes.keys.sorted()
    let arrays = Differential.arrays(
      names.map { TensorType(.float32, sizes: sizes[$0]!) }, range: -1...1, seed: 2)
    let given = Dictionary(uniqueKeysWithValues: zip(names, arrays))
    let want = try run(source, given)["y"]!
    let (written, results) = try ExportTests.roundTrip(try source.module(), given, opset: 21)
    #expect(written.graph.nodes.filter { $0.type == type }.count == 1)
    #expect(!written.graph.nodes.contains { $0.type == "Scan" })
    #expect(Differential.error(results[0].value, want, ulps: 64, scale: 1) <= 1)
  }

  /// Files have sums of any depth, of a value with itself too, whose terms are more than there is time for.
  @Test(.timeLimit(.minutes(1)), arguments: ["input", "state", "deep"])
  func whatIsLookedThroughIsBounded(_ place: String) throws {
    var module = Module("m")
    try module.function("forward") { g in
      let v = Self.inputs(gates: 4).map { g.input($0.0, .float32, $0.1.map { Size($0) }) }
      func doubled(_ x: Value) -> Value { (0..<60).reduce(x) { sum, _ in sum + sum } }
      var projected = g.linear(v[0], v[1], v[3])
      if place == "input" { projected = doubled(projected) }
      if place == "deep" {
        projected = (0..<5000).reduce(projected) { sum, _ in sum + 0.0 }
      }
      let made = g.scan(carried: [v[5], v[6]], inputs: [projected]) { g, s, parts in
        let sums = parts[0] + g.linear(s[0], v[2])
        func gate(_ k: Int) -> Value {
          g.slice(sums, axis: 1, from: Size(k * Self.size), to: Size((k + 1) * Self.size))
        }
        func cell() -> Value {
          g.logistic(gate(1)) * s[1] + g.logistic(gate(0)) * g.tanh(gate(2))
        }
        let (c, seen) = place == "state" ? (doubled(cell()), doubled(cell())) : (cell(), cell())
        return ([g.logistic(gate(3)) * g.tanh(seen), c], [])
      }
      g.output("h", made.carried[0])
    }
    let files = try ModelExport().encode(module, function: nil, file: "m.onnx")
    #expect(!files.model.isEmpty)
  }

  /// Steps that differ in one place from those of the operators.
  @Test(arguments: ["squash", "gate", "stack", "complement", "state"])
  func otherStepsStayScans(_ change: String) throws {
    let isGRU = change == "complement"
    let nodes = try Self.operators(Self.inputs(gates: isGRU ? 3 : 4)) { g, v in
      let start = isGRU ? [v[5]] : [v[5], v[6]]
      let made = g.scan(carried: start, inputs: [g.linear(v[0], v[1], v[3])]) { g, s, parts in
        let sums = parts[0] + g.linear(change == "state" ? s[1] : s[0], v[2], v[4])
        func gate(_ k: Int) -> Value {
          g.slice(sums, axis: 1, from: Size(k * Self.size), to: Size((k + 1) * Self.size))
        }
        if isGRU {
          let next = (g.logistic(gate(1)) - 1) * g.tanh(gate(2)) + g.logistic(gate(0)) * s[0]
          return ([next], [next])
        }
        let forget = change == "gate" ? g.tanh(gate(1)) : g.logistic(gate(1))
        let c = forget * s[1] + g.logistic(gate(0)) * g.tanh(gate(2))
        let h = g.logistic(gate(3)) * (change == "squash" ? g.tanh(s[1]) : g.tanh(c))
        return ([h, c], [change == "stack" ? c : h])
      }
      return made.outputs + made.carried
    }
    #expect(nodes.contains { $0.type == "Scan" })
    #expect(!nodes.contains { ["LSTM", "GRU"].contains($0.type) })
  }
}
