import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCZoo
import Testing

/// A batch without rows gives results without rows, in every function of every model that has a batch
/// dimension: compiled, interpreted, and in the derivatives that the models hold.
@Suite struct EmptyBatchTests {
  static let models = Zoo.models.filter { model in
    (try? model.module())?.dimensions.contains { $0.name == "n" } ?? false
  }

  /// What has more to compute than its rows, and more than the interpreter can in a test; and what begins
  /// with one of the rows.
  static let others: Set<String> = ["ebm sample", "ddpm sample", "score sample", "gmm initialize"]

  @Test(arguments: models.indices) func noRowsGiveNoRows(_ index: Int) throws {
    let module = try Self.models[index].module()
    for function in module.functions {
      let place = "\(module.name) \(function.name)"
      if Self.others.contains(place) { continue }
      var sizes = try module.bind(explicit: ["n": 0])
      // A mixture of nothing is fitted in a few iterations as well as in many, and so on.
      for (name, few) in [("iterations", 2), ("grid", 3), ("k", 3), ("L", 2)]
      where sizes[name] != nil { sizes[name] = few }
      let graph = try function.graph.bound(to: sizes)
      func values(_ kind: Argument.Kind) -> [String: Tensor] {
        let list = graph.arguments.filter { $0.kind == kind }
        let arrays = Differential.arrays(list.map(\.type), range: 0.1...0.9, seed: 5)
        return Dictionary(uniqueKeysWithValues: zip(list.map(\.name), arrays))
      }
      let (inputs, states) = (values(.input), values(.state))
      let (want, updates) = try Interpreter().run(
        module, function: function, inputs: inputs, states: states, dimensions: sizes)
      let executable = try Objects.compiler().compile(
        module, function: function.name, dimensions: sizes)
      let used = Set(executable.states.map(\.name))
      try executable.setState(states.filter { used.contains($0.key) })
      let got = try executable.run(inputs)
      for (a, b) in zip(got, want) {
        #expect(a.value.type == b.value.type, "\(place): \(a.name)")
        for (x, y) in zip(a.value.doubles, b.value.doubles) {
          let same = x == y || x.isNaN && y.isNaN || abs(x - y) <= 1e-5 * max(1, abs(y))
          #expect(same, "\(place): \(a.name) is \(x) compiled and \(y) interpreted")
        }
        let declared = function.outputs.first { $0.name == a.name }!.type.shape
        for (dimension, size) in zip(declared, a.value.shape) where dimension.name == "n" {
          #expect(size == 0, "\(place): \(a.name)")
        }
      }
      for (name, value) in updates {
        #expect(executable.state[name]?.type == value.type, "\(place): update of \(name)")
      }
    }
  }
}
