import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTestSupport
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
    return try Objects.compiler().compile(module, function: function, dimensions: sizes)
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
            type.dataType, bound.sizes, rounding: (0..<count).map { Double($0 * 5 % 11) / 11 - 0.5 }
          )
          : Tensor(type.dataType, bound.sizes, truncating: (0..<count).map { Int64($0 * 3 % 10) })
      }
    }
    return result
  }

  /// What other functions call and nothing else.
  static let others: Set<String> = ["encode", "decode", "predict", "loss_evaluation", "inverse"]

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
    var known: [String: Tensor] = [:]
    let recipe = try #require(module.recipe)
    let covered = module.functions.filter { !Self.others.contains($0.name) }.map(\.name)
    // What initialises the state runs first.
    for name in covered.sorted(by: { a, b in a == recipe.initialization && b != a }) {
      let function = module.function(name)!
      let sizes = try module.bind(
        explicit: Self.sizes(module).merging(
          name == recipe.initialization ? ["n": 40] : [:]
        ) { $1 })
      let executable = try Objects.compiler().compile(module, function: name, dimensions: sizes)
      if !executable.states.allSatisfy({ known[$0.name] != nil }) {
        try executable.initializeState(seed: 7)
        known.merge(executable.state) { a, _ in a }
      }
      let own = Set(executable.states.map(\.name))
      try executable.setState(known.filter { own.contains($0.key) })
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
      if name == recipe.initialization { known.merge(executable.state) { $1 } }
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

/// What is drawn in a loop with carried state is what the whole gives.
extension FamilyTests {
  static let greedy = [
    "seed": Tensor([], [Int64(1)]), "temperature": Tensor(splat: 0, .float32, []),
    "top_k": Tensor([], [Int32(0)]), "top_p": Tensor(splat: 1, .float32, []),
  ]

  /// At a temperature of 0 every text is the model's likeliest: the loss of the same text, given to the model as
  /// a whole, is that of its argmax, so that another next character always costs more.
  @Test(arguments: ["rnn", "lstm", "gru", "decoder"]) func greedyTextIsTheLikeliest(_ name: String)
    throws
  {
    let module = try Zoo.model("models/\(name)")!.module()
    let sizes = ["n": 1, "V": 11, "L": 20, "T": 20]
    let sample = try Objects.compiler().compile(module, function: "sample", dimensions: sizes)
    let loss = try Objects.compiler().compile(module, function: "loss", dimensions: sizes)
    for executable in [sample, loss] { try executable.initializeState(seed: 4) }
    let text = try sample.run(Self.greedy)[0].value.integers.map { Int32($0) }
    let before = Tensor([1, 20], [0] + text.dropLast())
    func nats(_ after: [Int32]) throws -> Double {
      try loss.run(["x": before, "y": Tensor([1, 20], after)])[0].value.doubles[0]
    }
    let least = try nats(text)
    for (place, other) in [(0, 1), (1, 3), (7, 2), (13, 5), (19, 4)] {
      var changed = text
      changed[place] = (changed[place] + Int32(other)) % 11
      #expect(try nats(changed) > least, "\(place)")
    }
  }

  /// Behind its last position a decoder goes on with the newest characters.
  @Test func decoderGoesOnBehindItsLastPosition() throws {
    let module = try Zoo.model("models/decoder")!.module()
    func text(_ length: Int) throws -> [Int32] {
      let sample = try Objects.compiler().compile(
        module, function: "sample", dimensions: ["n": 1, "V": 11, "L": length])
      try sample.initializeState(seed: 4)
      return try sample.run(Self.greedy)[0].value.integers.map { Int32($0) }
    }
    let long = try text(70)
    #expect(try Array(long[..<64]) == text(64))
    let loss = try Objects.compiler().compile(
      module, function: "loss", dimensions: ["n": 1, "V": 11, "T": 32])
    try loss.initializeState(seed: 4)
    // The 65th is the first of a cache that begins with the 32 before it.
    func nats(_ last: Int32) throws -> Double {
      let row = Array(long[32..<64])
      let after = Array(row.dropFirst()) + [last]
      return try loss.run(["x": Tensor([1, 32], row), "y": Tensor([1, 32], after)])[0].value
        .doubles[0]
    }
    let least = try nats(long[64])
    for other in 1..<11 { #expect(try nats((long[64] + Int32(other)) % 11) > least) }
  }

  @Test func flowInverts() throws {
    let module = try Zoo.model("models/flow")!.module()
    let transform = try Self.executable(module, "transform")
    let inverse = try Self.executable(module, "inverse")
    for executable in [transform, inverse] { try executable.initializeState(seed: 4) }
    let v = Tensor(.float32, [4, 64], rounding: (0..<256).map { Double($0 * 37 % 101) / 50 - 1 })
    let z = try transform.run(["v": v])[0].value
    #expect(zip(z.doubles, v.doubles).contains { abs($0 - $1) > 0.1 })
    let back = try inverse.run(["z": z])[0].value
    for (a, b) in zip(back.doubles, v.doubles) { #expect(abs(a - b) < 1e-5) }
  }
}
