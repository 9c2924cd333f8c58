import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import Testing

/// Random numbers for every one of the 2^24 draws that there are, in every type of the operand.
@Suite struct RandomTests {
  static let floats: [DataType] = DataType.allCases.filter(\.isFloat)

  /// Every draw, compiled; 64 at either end and in the middle, interpreted.
  static func draws(_ body: (FunctionBuilder, Value) -> Void) throws -> [[String: [Double]]] {
    var module = Module("random")
    module.dimension("n", default: 1 << 24)
    try module.function("forward") { g in
      let number = g.iota(.uint32, ["n"], axis: 0) + g.input("first", .uint32)
      let word = g.binary(.shift_left, number, g.constant(8, .uint32))
      // The lower bits are not used.
      body(g, g.binary(.or, word, g.binary(.and, number, g.constant(255, .uint32))))
    }
    func first(_ number: Int64) -> [String: Tensor] {
      ["first": Tensor(.uint32, [], truncating: [number])]
    }
    let compiled = try Compiler().compile(module).run(first(0), threads: 2)
    var results = [compiled]
    for start in [0, 1 << 23 - 32, 1 << 24 - 64] {
      results.append(
        try Interpreter().run(
          module, function: module.functions[0], inputs: first(Int64(start)), states: [:],
          dimensions: ["n": 64]
        ).outputs)
    }
    return results.map { list in
      Dictionary(uniqueKeysWithValues: list.map { ($0.name, $0.value.doubles) })
    }
  }

  @Test func everyDrawIsFiniteAndInside() throws {
    for result in try Self.draws({ g, bits in
      func range(_ name: String, _ x: Value) {
        g.output("least \(name)", g.min(x, axes: [0]))
        g.output("most \(name)", g.max(x, axes: [0]))
      }
      g.output("count", g.dimension("n", .int64))
      range("uniform", g.uniform(bits: bits))
      range("gumbel", g.gumbel(bits: bits))
      // All radii with both ends of the angle.
      range("normal", g.normal(bits: bits, g.constant(0, like: bits)))
      range("negative normal", g.normal(bits: bits, g.constant(0x8000_0000, like: bits)))
    }) {
      // The whole range where all draws are seen, a part of it where some are.
      func holds(_ name: String, _ low: Double, _ high: Double) {
        let (least, most) = (result["least \(name)"]![0], result["most \(name)"]![0])
        #expect(least >= low - 1e-6 * Swift.max(1, -low) && most <= high * (1 + 1e-6), "\(name)")
        if result["count"] == [0x1p24] {
          #expect(least <= low * (1 - 1e-6) && most >= high * (1 - 1e-6), "\(name)")
        }
      }
      holds("uniform", 0, 1 - 0x1p-24)
      holds("gumbel", -2.8115408, 16.635532)
      holds("normal", 0, 5.7681074)
      holds("negative normal", -5.7681074, 0)
    }
  }

  @Test func certaintiesAreCertain() throws {
    for result in try Self.draws({ g, bits in
      func count(_ name: String, _ p: Value) {
        let hits = g.convert(g.bernoulli(bits: bits, g.broadcast(p, to: bits.shape)), .int64)
        g.output(name, g.sum(hits, axes: [0]))
        g.output("\(name) of", g.dimension("n", .int64))
      }
      for type in Self.floats {
        count("always \(type)", g.constant(1, type))
        count("never \(type)", g.constant(0, type))
        count("half \(type)", g.constant(0.5, type))
      }
      count("third", g.constant(1 / 3.0, .float64))
    }) {
      for type in Self.floats {
        let all = result["always \(type) of"]!
        #expect(result["always \(type)"] == all, "\(type)")
        #expect(result["never \(type)"] == [0], "\(type)")
        if all[0] == 0x1p24 { #expect(result["half \(type)"] == [0x1p23], "\(type)") }
      }
      if result["third of"] == [0x1p24] { #expect(result["third"] == [5_592_406]) }
    }
  }

  /// Rows in which one class is possible, for the least, the middle and the largest noise of each.
  @Test(arguments: floats) func impossibleClassesAreNeverDrawn(_ type: DataType) throws {
    let choices: [Int64] = [0, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]
    var words: [Int64] = []
    for a in choices { for b in choices { for c in choices { words += [a, b, c] } } }
    let rows = words.count / 3
    let tables: [(logits: [Double], drawn: Set<Double>)] = [
      ([-.infinity, 0, -.infinity], [1]), ([-.infinity, -.infinity, -60000], [2]),
      ([60000, -.infinity, -.infinity], [0]), ([-.infinity, .infinity, 0], [1]),
      ([-.infinity, -.infinity, -.infinity], [0]), ([0, 0, -40], [0, 1]),
      // Apart by less than the unit in the last place of float32.
      (type == .float64 ? [1e9, 1e9 + 30, 1e9] : [0, 30, 0], [1]),
    ]
    var module = Module("categorical")
    try module.function("forward") { g in
      let bits = g.input("bits", .uint32, [Size(rows), 3])
      for (number, table) in tables.enumerated() {
        let row = g.constant(Tensor(type, [3], rounding: table.logits))
        g.output(
          "\(number)",
          g.categorical(bits: bits, g.broadcast(row, to: [Size(rows), 3])))
      }
    }
    let inputs = ["bits": Tensor(.uint32, [rows, 3], truncating: words)]
    let compiled = try Compiler().compile(module).run(inputs)
    let (reference, _) = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:])
    for list in [compiled, reference] {
      for ((name, value), table) in zip(list, tables) {
        #expect(Set(value.doubles) == table.drawn, "\(type) \(name): \(table.logits)")
      }
    }
  }
}
