import DLCCompiler
import DLCFormats
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCZoo
import Foundation
import Testing

/// The saved graphs of `Graphs/equations` against PyTorch in double precision (Tools/equations.py).
@Suite struct EquationTests {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../..").standardizedFileURL.path
  static let fixtures = root + "/Tests/Fixtures/equations"

  struct Signature: Decodable {
    var file: String
    var function: String
    var inputs: [String]
    var outputs: [String]
    var parameters: [String]
  }

  static let signatures: [Signature] = {
    let data = FileManager.default.contents(atPath: root + "/Tests/Fixtures/signatures.json")!
    return try! JSONDecoder().decode([Signature].self, from: data)
  }()

  /// "x[n,d] int32": a name and a type.
  static func port(_ text: String) throws -> (name: String, type: TensorType) {
    let parts = text.split(separator: "]", maxSplits: 1)
    let head = parts[0].split(separator: "[", maxSplits: 1)
    let shape = head.count > 1 ? head[1].split(separator: ",") : []
    let type = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : ""
    return (
      String(head[0]),
      TensorType(
        type.isEmpty ? .float32 : DataType(rawValue: type)!,
        try shape.map { $0 == "L" ? 2 : try Size(parsing: String($0)) })
    )
  }

  @Test(arguments: signatures.indices) func signatureIsTheContract(_ index: Int) throws {
    let wanted = Self.signatures[index]
    let module = try Module(contentsOf: "\(Self.root)/Graphs/equations/\(wanted.file).pb")
    let function = try #require(module.function(wanted.function), "\(wanted.file)")
    func check(_ got: [(name: String, type: TensorType)], _ list: [String]) throws {
      let want = try list.map { try Self.port($0) }
      #expect(got.map(\.name) == want.map(\.name))
      for (name, type) in want {
        guard let own = got.first(where: { $0.name == name })?.type else { continue }
        #expect(own.dataType == type.dataType && own.rank == type.rank, "\(name): \(own), \(type)")
        // A letter may stand for an expression (f, the flattened size of the cnn).
        for (a, b) in zip(own.shape, type.shape)
        where a != b && !(b == "f" && wanted.file == "architectures/cnn") {
          let sizes = Dictionary(uniqueKeysWithValues: module.dimensions.map { ($0.name, $0.size) })
          #expect(try a.evaluate(sizes) == b.evaluate(sizes), "\(name): \(own), \(type)")
        }
      }
    }
    try check(function.inputs, wanted.inputs)
    var outputs = wanted.outputs
    if let all = outputs.firstIndex(of: "d_P for every parameter P") {
      outputs.replaceSubrange(all...all, with: wanted.parameters.map { "d_" + $0 })
    }
    try check(function.outputs, outputs)
    try check(
      module.states.map { ($0.name, $0.type) }, wanted.parameters)
  }

  /// What may be off, for a result of the size of `want` at an input of the size of `x`.
  static func allowance(_ file: String, _ function: String, _ want: Double, _ x: Double) -> Double {
    if function == "gradient" { return 2e-6 * abs(want) + 1e-6 * max(1, abs(x)) }
    switch file {
    case "elu", "selu", "gelu", "gelu_tanh", "hard_sigmoid":
      return 2e-6 * abs(want) + 5e-7 * max(1, abs(x))
    case "softmax": return 2e-6 * abs(want) + 5e-7
    // Below the normal numbers of float32 there is no relative accuracy.
    default: return 2e-6 * abs(want) + 1e-45 * max(10, abs(x))
    }
  }

  static let cases = try! FileManager.default.contentsOfDirectory(atPath: fixtures).sorted()
    .filter { !$0.hasPrefix("layers.") }

  @Test func everyFunctionHasAFixture() {
    let present = Set(Self.cases.map { $0.split(separator: ".")[..<3].joined(separator: ".") })
    for s in Self.signatures where s.function != "sample" {
      #expect(
        present.contains("\(s.file.replacing("/", with: ".")).\(s.function)"),
        "\(s.file) \(s.function)")
    }
  }

  @Test(arguments: cases) func agreesWithPyTorch(_ name: String) throws {
    let parts = name.split(separator: ".").map(String.init)
    let (folder, file, function) = (parts[0], parts[1], parts[2])
    let module = try Module(contentsOf: "\(Self.root)/Graphs/equations/\(folder)/\(file).pb")
    var groups: [String: [String: Tensor]] = ["i": [:], "p": [:], "o": [:]]
    for (key, value) in try Npz.read("\(Self.fixtures)/\(name)") {
      let split = key.split(separator: "/", maxSplits: 1)
      groups[String(split[0])]![String(split[1])] = value
    }
    let graph = try #require(module.function(function))
    var arrays: [(name: String, declared: TensorType, shape: [Int])] = []
    for (name, type) in graph.inputs {
      arrays.append((name, type, try #require(groups["i"]![name], "\(name)").shape))
    }
    for state in module.states {
      guard let value = groups["p"]![state.name] else { continue }
      arrays.append((state.name, state.type, value.shape))
    }
    var explicit: [String: Int] = [:]
    if parts[3].contains("="), let size = Int(parts[3].split(separator: "=")[1]) {
      explicit[String(parts[3].split(separator: "=")[0])] = size
    }
    let sizes = try module.bind(explicit: explicit, arrays: arrays)
    let executable = try Compiler().compile(module, function: function, dimensions: sizes)
    let used = Set(executable.states.map(\.name))
    try executable.setState(groups["p"]!.filter { used.contains($0.key) })
    let results = try executable.run(groups["i"]!, threads: 2)
    #expect(Set(results.map(\.name)) == Set(groups["o"]!.keys))
    for (output, value) in results {
      let want = try #require(groups["o"]![output])
      #expect(value.shape == want.shape, "\(output)")
      if !want.dataType.isFloat {
        #expect(value.integers == want.integers, "\(output)")
        continue
      }
      let (a, b) = (value.doubles, want.doubles)
      let scale = b.map { abs($0) }.max() ?? 0
      var worst = 0.0
      let x = groups["i"]!["x"]?.doubles
      for index in a.indices {
        var allowed = 1e-4 * scale + 1e-30
        if folder == "activations", file != "maxout", let x, x.count == a.count {
          allowed = Self.allowance(file, function, b[index], x[index])
        }
        let off = abs(a[index] - b[index])
        worst = off.isNaN ? .infinity : max(worst, off / allowed)
      }
      #expect(worst <= 1, "\(output) is off by \(worst) times what is allowed, size \(scale)")
    }
  }

  /// A seed means the same samples for any number of threads.
  @Test func samplesDependOnTheSeedAlone() throws {
    for model in Zoo.models where model.name.hasPrefix("equations/generative") {
      let module = try model.module()
      guard let function = module.function("sample") else { continue }
      let executable = try Compiler().compile(
        module, function: "sample", dimensions: [:])
      try executable.initializeState(seed: 3)
      var inputs: [String: Tensor] = [:]
      let sizes = try module.bind()
      for (name, type) in function.inputs where name != "seed" {
        let bound = try type.substitute(sizes)
        switch name {
        case "pi":
          inputs[name] = Tensor(splat: 1 / Double(bound.elementCount), .float32, bound.sizes)
        case "Sigma":
          let d = bound.sizes[1]
          inputs[name] = Tensor(
            .float32, bound.sizes,
            rounding: (0..<bound.elementCount).map { $0 % (d * d) % (d + 1) == 0 ? 1 : 0 })
        case "temperature": inputs[name] = Tensor(splat: 1, .float32, [])
        default: inputs[name] = Tensor(splat: 0.5, .float32, bound.sizes)
        }
      }
      func draw(_ seed: Int64, _ threads: Int) throws -> Tensor {
        inputs["seed"] = Tensor(.int64, [], truncating: [seed])
        return try executable.run(inputs, threads: threads)[0].value
      }
      let first = try draw(1, 1)
      #expect(first.doubles.allSatisfy { $0.isFinite }, "\(model.name)")
      #expect(try draw(1, 2) == first && draw(1, 4) == first, "\(model.name)")
      if model.name != "equations/generative/sampler" {
        #expect(try draw(2, 2) != first, "\(model.name)")
      }
    }
  }
}
