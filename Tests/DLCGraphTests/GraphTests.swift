import DLCGraph
import DLCReference
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

@Suite struct GraphTests {
  static func example() throws -> Module {
    var module = Module("example")
    module.dimension("n", default: 4)
    module.dimension("d", default: 3)
    try module.function("forward") { g in
      let x = g.input("x", .float32, ["n", "d"])
      let w = g.parameter("W", ["2*d", "d"], .glorotUniform)
      let step = g.state("step", .int32)
      g.output("y", g.softmax(g.linear(x, w)))
      g.update("step", step + g.constant(1, .int32))
    }
    return module
  }

  @Test func textRoundTrip() throws {
    let module = try Self.example()
    let read = try Module(parsing: module.text)
    // Scopes and lines are no part of what is equal.
    #expect(read == module && read.text == module.text)
  }

  /// Scopes are paths; graphs that differ in them and in lines alone are equal, loops inside included.
  @Test func scopes() throws {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.input("x", .float32, [3])
      let y = g.scope("block") { g.scope("inner") { g.tanh(x) } }
      g.output("y", y + g.scope("other") { g.tanh(x) })
    }
    let nodes = module.functions[0].graph.nodes
    #expect(nodes.map(\.name) == ["block/inner", "other", ""])
    #expect(nodes[0].location.contains("GraphTests.swift"))
    func looped(_ name: String) throws -> Graph {
      var module = Module("m")
      let body = { (g: FunctionBuilder, c: [Value], _: [Value]) -> ([Value], [Value]) in
        ([g.scope(name) { g.tanh(c[0]) }], [])
      }
      try module.function("f") { g in
        let x = g.input("x", .float32, [3])
        if name == "a" {
          g.output("y", g.scan(carried: [x], length: 2, body: body).carried[0])
        } else {
          g.output("y", g.scan(carried: [x], length: 2, body: body).carried[0])
        }
      }
      return module.functions[0].graph
    }
    let (a, b) = (try looped("a"), try looped("b"))
    #expect(a == b && a.hashValue == b.hashValue && a.text() != b.text())
  }

  /// A control operator says which graphs it runs, and each operator has a file of tests.
  @Test func everyOperatorIsTested() throws {
    let folder = "\(#filePath)".split(separator: "/").dropLast().joined(separator: "/")
    for type in Operation.operators {
      #expect(
        FileManager.default.fileExists(atPath: "/\(folder)/Operators/\(type)Tests.swift"), "\(type)"
      )
      for sample in type.samples {
        let isControl = sample.operation.definition is any ControlOperator
        #expect(isControl == (sample.operation.flow != nil))
        #expect(isControl == !sample.operation.regions.isEmpty)
      }
    }
  }

  @Test func everyOperatorHasSamplesAndUniqueMnemonics() {
    var seen: Set<String> = []
    for type in Operation.operators {
      #expect(!type.samples.isEmpty)
      for mnemonic in type.mnemonics { #expect(seen.insert(mnemonic).inserted) }
    }
  }

  @Test func diagnosticsNameTheBuilderLine() {
    var module = Module("bad")
    module.dimension("n", default: 4)
    var error: DLCError?
    let line = #line + 4  // a macro's arguments would all have the macro's line
    do {
      try module.function("forward") { g in
        let x = g.input("x", .float32, ["n", 3])
        _ = g.dotGeneral(x, x, lhsContracting: [1], rhsContracting: [0])
      }
    } catch let caught { error = caught }
    #expect(
      error?.location.contains("GraphTests.swift:\(line)") == true, "\(String(describing: error))")
    #expect(error?.message.contains("paired-sizes") == true)
    #expect(module.functions.isEmpty)
  }

  @Test func namedDimensionsBindLate() throws {
    let module = try Self.example()
    let sizes = try module.bind(arrays: [("x", module.functions[0].inputs[0].type, [7, 5])])
    #expect(sizes == ["n": 7, "d": 5])
    #expect(try module.functions[0].graph.bound(to: sizes).type(ValueID(1)).sizes == [10, 5])
    #expect(throws: DLCError.self) { try module.bind(explicit: ["m": 3]) }
    #expect(throws: DLCError.self) {
      try module.bind(
        explicit: ["n": 2], arrays: [("x", module.functions[0].inputs[0].type, [7, 5])])
    }
  }

  @Test func verifierFindsEachViolation() throws {
    var module = try Self.example()
    var graph = module.functions[0].graph
    graph.results.append(NamedValue("y", ValueID(999)))
    #expect(Set(graph.violations(in: "f").map(\.label)) == ["result-value", "result-name"])
    module.dimension("bad name", default: -1)
    #expect(
      Set(module.violations().map(\.label)).isSuperset(of: ["dimension-name", "dimension-size"]))
  }

  @Test func initialisersDependOnSeedAndNameAlone() {
    let type = TensorType(.float32, [64, 32])
    let a = Initializer.heNormal.value(type, name: "W", seed: 1)
    #expect(a == Initializer.heNormal.value(type, name: "W", seed: 1))
    #expect(a != Initializer.heNormal.value(type, name: "W", seed: 2))
    #expect(a != Initializer.heNormal.value(type, name: "V", seed: 1))
    let values = a.doubles
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
    #expect(abs(mean) < 0.02 && abs(variance - 2.0 / 32) < 0.006)
    let uniform = Initializer.glorotUniform.value(type, name: "W", seed: 3).doubles
    let limit = (6.0 / 96).squareRoot()
    #expect(uniform.allSatisfy { abs($0) <= limit } && uniform.contains { abs($0) > 0.9 * limit })
  }
}
