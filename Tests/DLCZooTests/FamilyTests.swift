import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTraining
import DLCZoo
import Testing

/// The realistic models, at small sizes.
@Suite struct FamilyTests {
  static let models = Zoo.models.filter { $0.name.hasPrefix("models/") }
  static let sizes = ["n": 4, "T": 5, "V": 11, "L": 3, "k": 4, "grid": 20, "iterations": 20]

  static func sizes(_ module: Module) -> [String: Int] {
    let declared = module.dimensions.map(\.name)
    return sizes.filter { declared.contains($0.key) }
  }

  static func executable(_ module: Module, _ function: String, _ more: [String: Int] = [:]) throws
    -> Executable
  {
    let sizes = sizes(module).merging(more) { $1 }
    return try Compiler().compile(module, function: function, dimensions: sizes)
  }

  /// Arrays as the data have them: pixels of 17 grey levels, small integers.
  static func arrays(_ module: Module, _ function: Function, _ sizes: [String: Int]) throws
    -> [String: Tensor]
  {
    var result: [String: Tensor] = [:]
    for (name, type) in function.inputs {
      let bound = try type.substitute(sizes)
      let count = bound.elementCount
      switch module.recipe?.meanings[name] {
      case .setting(let value)?: result[name] = Tensor(splat: value, type.dataType, [])
      case .image?:
        result[name] = Tensor(
          .float32, bound.sizes, rounding: (0..<count).map { Double($0 * 7 % 17) / 16 })
      default:
        result[name] =
          type.dataType.isFloat
          ? Tensor(
            type.dataType, bound.sizes, rounding: (0..<count).map { Double($0 * 5 % 11) / 11 - 0.5 })
          : Tensor(type.dataType, bound.sizes, truncating: (0..<count).map { Int64($0 * 3 % 10) })
      }
    }
    return result
  }

  @Test func everyFamilyHasAModel() {
    #expect(
      Set(Self.models.map { $0.name.dropFirst(7) }) == [
        "ffn", "cnn", "encoder", "rnn", "lstm", "gru", "decoder", "vae", "gan", "ddpm", "score",
        "flow", "autoregressive", "ebm", "rbm", "gmm",
      ])
  }

  /// Every function gives finite numbers; what draws random numbers gives others for another seed, and the
  /// same for any number of threads.
  @Test(arguments: models.map(\.name)) func functionsRun(_ name: String) throws {
    let model = Zoo.model(name)!
    let module = try model.module()
    var state: [String: Tensor] = [:]
    let names = module.functions.map(\.name)
    let recipe = try #require(module.recipe)
    // What initialises the state runs first.
    for name in names.sorted(by: { a, b in a == recipe.initialization && b != a }) {
      let function = module.function(name)!
      let sizes = try module.bind(
        explicit: Self.sizes(module).merging(
          name == recipe.initialization ? ["n": 40] : [:]) { $1 })
      let executable = try Compiler().compile(module, function: name, dimensions: sizes)
      try executable.initializeState(seed: 7)
      let own = Set(executable.states.map(\.name))
      try executable.setState(executable.state.merging(state.filter { own.contains($0.key) }) { $1 })
      let before = executable.state
      var inputs = try Self.arrays(module, function, sizes)
      let place = "\(model.name) \(name)"
      func run(_ threads: Int) throws -> [Tensor] {
        try executable.setState(before)
        return try executable.run(inputs, threads: threads).map(\.value)
      }
      let first = try run(1)
      for (value, output) in zip(first, function.outputs) where output.type.dataType.isFloat {
        #expect(value.doubles.allSatisfy { $0.isFinite }, "\(place): \(output.name)")
      }
      for (name, value) in executable.state {
        #expect(value.doubles.allSatisfy { $0.isFinite }, "\(place): \(name)")
      }
      if name == recipe.initialization { state = executable.state }
      #expect(try run(2) == first, "\(place)")
      if inputs["seed"] != nil, !first.isEmpty, name != "evaluate" || model.name != "models/flow" {
        inputs["seed"] = Tensor([], [Int64(99)])
        #expect(try run(2) != first, "\(place)")
      }
    }
  }

  @Test(arguments: models.map(\.name)) func recipesAreSound(_ name: String) throws {
    let model = Zoo.model(name)!
    let module = try model.module()
    let recipe = try #require(module.recipe)
    let step = try TrainingStep(module, phases: recipe.phases)
    for (name, type) in step.inputs { #expect(type.shape.first == "n", "\(name)") }
    for name in [recipe.initialization, recipe.evaluation, recipe.sample].compactMap(\.self) {
      #expect(module.function(name) != nil, "\(name)")
    }
    let known = Set(module.functions.flatMap { $0.inputs.map(\.name) + $0.outputs.map(\.name) })
    #expect(known.isSuperset(of: recipe.meanings.keys))
  }
}
