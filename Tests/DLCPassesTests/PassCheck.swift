import DLCGraph
import DLCPasses
import DLCReference
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

/// What holds for every pass: the graph that it makes is sound, and gives what the graph gave.
enum PassCheck {
  static func graph(_ build: (FunctionBuilder) -> Void) throws -> Graph {
    var module = Module("m")
    try module.function("f", build)
    return try module.functions[0].graph.bound(to: [:])
  }

  /// Runs a pass and compares the results on ordinary numbers, and where `isExact` bit for bit also on NaN,
  /// infinities, zeros of both signs and the extremes of integers.
  static func run(_ pass: any Pass, _ graph: Graph, isExact: Bool = true) throws -> (
    graph: Graph, counts: [String: Int]
  ) {
    var budget = RewriteBudget()
    let (after, counts) = try pass.run(graph, &budget)
    #expect(after.violations(in: pass.name).isEmpty)
    #expect(after.resultTypes == graph.resultTypes)
    try compare(graph, after, isExact: isExact)
    return (after, counts)
  }

  /// Both graphs give the same results by the reference.
  static func compare(_ before: Graph, _ after: Graph, isExact: Bool) throws {
    let types = before.arguments.map(\.type)
    var samples = (0..<2).map { Differential.arrays(types, range: 0.2...2, seed: $0 + 3) }
    samples.append(Differential.arrays(types, range: -2...2, seed: 5))
    if isExact { samples += (0..<3).map { special(types, seed: $0) } }
    for sample in samples {
      let arrays = sample.map { ReferenceArray($0) }
      let byName = Dictionary(uniqueKeysWithValues: zip(before.arguments.map(\.name), arrays))
      let interpreter = Interpreter(.float64)
      let old = interpreter.run(before, arrays)
      let new = interpreter.run(after, after.arguments.map { byName[$0.name]! })
      for (a, b) in zip(before.results + before.updates, after.results + after.updates) {
        let (x, y) = (old[a.value]!, new[b.value]!)
        #expect(x.integers == y.integers, "\(a.name)")
        #expect(
          zip(x.reals, y.reals).allSatisfy {
            if $0.isNaN && $1.isNaN { return true }
            if isExact { return $0.bitPattern == $1.bitPattern }
            return abs($0 - $1) <= 1e-12 * max(1, abs($0))
          }, "\(a.name): \(x.reals) and \(y.reals)")
      }
    }
  }

  /// Both graphs give the same results once they are stored, in the declared arithmetic.
  static func compareStored(_ before: Graph, _ after: Graph) throws {
    let arrays = Differential.arrays(before.arguments.map(\.type), range: -2...2, seed: 7).map {
      ReferenceArray($0)
    }
    let (old, new) = (Interpreter().run(before, arrays), Interpreter().run(after, arrays))
    for (a, b) in zip(before.results, after.results) {
      #expect(old[a.value]!.tensor == new[b.value]!.tensor, "\(a.name)")
    }
  }

  private static func special(_ types: [TensorType], seed: UInt64) -> [Tensor] {
    let reals = [0, -0.0, 1, -1, .infinity, -.infinity, .nan, 0.5, -2.5, 1e-42, 3e38]
    let integers: [Int64] = [0, 1, -1, .min, .max, 127, -128, 5]
    return types.enumerated().map { number, type in
      func draw(_ index: Int, _ bound: Int) -> Int {
        Int(Philox.word(index: UInt64(index), key: seed, counter: UInt64(number))) % bound
      }
      let elements = 0..<type.elementCount
      return type.dataType.isFloat
        ? Tensor(type.dataType, type.sizes, rounding: elements.map { reals[draw($0, reals.count)] })
        : Tensor(
          type.dataType, type.sizes,
          truncating: elements.map { wrap(integers[draw($0, integers.count)], type.dataType) })
    }
  }

  /// The names of the operators in a graph, in order.
  static func mnemonics(_ graph: Graph) -> [String] { graph.nodes.map(\.operation.mnemonic) }

  /// The same without what nobody uses.
  static func needed(_ graph: Graph) throws -> [String] {
    var budget = RewriteBudget()
    return mnemonics(try EliminateDeadCode().run(graph, &budget).graph)
  }
}

/// A newcomer finds the tests of a pass by its name.
@Suite struct PassFilesTests {
  @Test func everyPassHasAFileOfTests() {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path
    let passes: [any Pass] = StandardPasses.all + StandardPasses.legalizing
    for pass in passes {
      let path = "\(folder)/\(type(of: pass))Tests.swift"
      let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
      #expect(text.contains("@Suite struct \(type(of: pass))Tests"), "\(path)")
    }
  }
}
