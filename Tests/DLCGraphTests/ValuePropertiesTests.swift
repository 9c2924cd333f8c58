import DLCGraph
import DLCReference
import DLCTensor
import DLCTestSupport
import Testing

/// What `ValueProperties` claims holds for the values that the interpreter gives, in both of its arithmetics
/// and for every kind of operand: NaN, infinities, minus zero, the extremes of integers.
@Suite struct ValuePropertiesTests {
  /// Numbers that operands are drawn from.
  static let reals: [[Double]] = [
    [
      0, -0.0, 1, -1, .infinity, -.infinity, .nan, 0.5, -2.5, 1e-42, -1e-42, 3e38, -3e38, 65504,
      1e-310,
    ],
    [0, 0.25, 1, 2, 1e30, 1e-30], [0.5, 1, 3, 7.25], [0], [-0.0, 0], [-0.0], [-4, -0.5, -1e-30],
    [0, 0.5, .infinity], [1, .nan], [1.5, -.infinity, .infinity], [.nan], [2],
  ]
  static let integers: [[Int64]] = [
    [0, 1, -1, 7, -128, 127, 128, 255, 32767, -32768, .min, .max, Int64(Int32.min), 1 << 31],
    [0, 1, 2, 3], [1, 5, 60], [0], [1], [-3, -1], [3], [0, 100], [100, 127],
  ]

  struct Draw {
    var seed: UInt64
    var count: UInt64 = 0
    mutating func next(_ bound: Int) -> Int {
      count += 1
      return Int(Philox.word(index: count, key: seed, counter: 5)) % bound
    }
    mutating func tensor(_ type: TensorType, _ palette: Int) -> Tensor {
      let elements = 0..<type.elementCount
      if type.dataType.isFloat {
        let numbers = reals[palette % reals.count]
        return Tensor(
          type.dataType, type.sizes, rounding: elements.map { _ in numbers[next(numbers.count)] })
      }
      let numbers = integers[palette % integers.count]
      return Tensor(
        type.dataType, type.sizes,
        truncating: elements.map { _ in wrap(numbers[next(numbers.count)], type.dataType) })
    }
  }

  /// Whether a value is what is claimed of it.
  static func holds(_ facts: ValueFacts, _ x: ReferenceArray) -> Bool {
    let elements = (0..<x.count).map { x[$0] }
    let isWithin = elements.allSatisfy { element in
      switch (element, facts.numbers) {
      case (_, .any): return true
      case (.float(let v), .real(let range)):
        if v.isNaN { return range.mayBeNaN }
        return v >= range.low && v <= range.high && (v.sign == .plus || !range.isSignClear)
      case (.integer(let v), .integer(let range)): return range.contains(v)
      default: return false
      }
    }
    func bits(_ element: ScalarConstant) -> UInt64 {
      switch element {
      case .float(let v): v.isNaN ? Double.nan.bitPattern : v.bitPattern
      case .integer(let v): UInt64(bitPattern: v)
      }
    }
    func isNonZero(_ element: ScalarConstant) -> Bool { bits(element) << 1 != 0 }
    /// All rows along an axis.
    func rows(_ axis: Int) -> [[ScalarConstant]] {
      Dictionary(grouping: elements.indices) { index in
        var place = unflatten(index, x.shape)
        place[axis] = 0
        return place
      }.values.map { $0.map { elements[$0] } }
    }
    return isWithin
      && facts.uniformAxes.allSatisfy { rows($0).allSatisfy { Set($0.map(bits)).count == 1 } }
      && facts.distinctAxis.map { rows($0).allSatisfy { Set($0.map(bits)).count == $0.count } }
        ?? true
      && facts.oneHotAxis.map {
        rows($0).allSatisfy { row in
          let hot = row.filter(isNonZero)
          return hot.isEmpty || hot == [x.type.isFloat ? .float(1) : .integer(1)]
        }
      } ?? true
  }

  /// Checks all values of a graph; gives how many have bounds that their type does not say.
  static func check(_ graph: Graph, _ arguments: [ReferenceArray]) -> Int {
    var whole = graph
    whole.results = graph.types.indices.map { NamedValue("v\($0)", ValueID($0)) }
    whole.updates = []
    var properties = ValueProperties(of: whole)
    let facts = graph.types.indices.map { properties.facts(ValueID($0), in: whole) }
    for precision in [Interpreter.Precision.declared, .float64] {
      let values = Interpreter(precision).run(whole, arguments)
      for (index, claim) in facts.enumerated() where !holds(claim, values[ValueID(index)]!) {
        Issue.record(
          "%\(index) is not \(claim) but \(values[ValueID(index)]!) (\(precision)) in\n\(graph.text())"
        )
        return 0
      }
    }
    return facts.indices.count {
      facts[$0].numbers != ValueFacts().completed(graph.types[$0]).numbers
    }
  }

  /// Each operator, applied to constants of every kind: what is known of them is exact.
  @Test(arguments: Array(Operation.operators.indices)) func claimsHoldForEveryOperator(
    _ number: Int
  ) throws {
    let samples = Operation.operators[number].samples
    for (count, sample) in samples.enumerated() {
      // Every operator sees every kind of operand, in one of its samples or the other.
      let rounds = max(1, 12 / samples.count)
      for palette in (0..<rounds).map({ ($0 * 5 + count) % 12 }) {
        var draw = Draw(seed: UInt64(100 * number + count))
        var graph = Graph()
        var operands: [ValueID] = []
        for (place, type) in sample.operands.enumerated() {
          // Also operands of two kinds.
          let tensor = draw.tensor(type, palette + (palette % 2) * place)
          operands += try graph.append(.constant(Constant(tensor)), [])
        }
        _ = try graph.append(sample.operation, operands)
        _ = Self.check(graph, [])
      }
    }
  }

  /// Graphs of operations on elements, and of what combines and moves them.
  @Test(arguments: 0..<60) func claimsHoldForChains(_ seed: Int) throws {
    let types: [DataType] = [
      .float32, .float64, .bfloat16, .float16, .int8, .int32, .uint8, .int64, .uint64, .uint32,
    ]
    var draw = Draw(seed: UInt64(seed) + 1)
    var (graph, known) = (Graph(), [ValueID]())
    let first = types[seed % types.count]
    let input = TensorType(first, sizes: [3, 4])
    known.append(graph.addArgument(Argument(.input, "x", input)))
    for _ in 0..<3 {
      let tensor = draw.tensor(input, draw.next(12))
      known += try graph.append(.constant(Constant(tensor)), [])
    }
    known += try graph.append(.iota(Iota(input, axis: draw.next(2))), [])
    for _ in 0..<40 {
      let x = (0..<3).map { _ in known[draw.next(known.count)] }
      let operation: DLCGraph.Operation
      var operands = x
      switch draw.next(12) {
      case 0, 1:
        operation = .unary(Unary(UnaryFunction.allCases[draw.next(UnaryFunction.allCases.count)]))
        operands = [x[0]]
      case 2, 3, 4:
        operation = .binary(
          Binary(BinaryFunction.allCases[draw.next(BinaryFunction.allCases.count)]))
        operands = [x[0], x[1]]
      case 5:
        operation = .compare(Compare(Comparison.allCases[draw.next(Comparison.allCases.count)]))
        operands = [x[0], x[1]]
      case 6: operation = .select(Select())
      case 7: operation = .clamp(Clamp())
      case 8:
        operation = .convert(
          Convert(draw.next(3) == 0 ? first : types[draw.next(types.count)]))
        operands = [x[0]]
      case 9:
        let combiner = Combiner.allCases[draw.next(Combiner.allCases.count)]
        operation = .cumulative(
          Cumulative(combiner, axis: draw.next(2), exclusive: draw.next(2) == 0))
        operands = [x[0]]
      case 10:
        let axis = draw.next(2)
        let reduce = Reduce(Combiner.allCases[draw.next(Combiner.allCases.count)], axes: [axis])
        guard let reduced = try? graph.append(.reduce(reduce), [x[0]]) else { continue }
        operation = .broadcast(Broadcast([3, 4], axes: [1 - axis]))
        operands = reduced
      default:
        operation = .reverse(Reverse([draw.next(2)]))
        operands = [x[0]]
      }
      // What the types do not allow is left out.
      if let made = try? graph.append(operation, operands) { known += made }
    }
    for palette in 0..<2 {
      _ = Self.check(graph, [ReferenceArray(draw.tensor(input, palette))])
    }
  }

  @Test func claimsHoldForRandomGraphs() throws {
    var claims = 0
    for seed in 0..<30 {
      var generator = GraphGenerator(seed: UInt64(seed) + 900)
      let graph = try generator.module(nodes: 14).functions[0].graph.bound(to: [:])
      var draw = Draw(seed: UInt64(seed))
      let arguments = graph.arguments.map { ReferenceArray(draw.tensor($0.type, seed % 12)) }
      claims += Self.check(graph, arguments)
    }
    #expect(claims > 100)
  }

  // MARK: What is found

  static func facts(_ build: (FunctionBuilder) -> Value) throws -> ValueFacts {
    var module = Module("m")
    try module.function("f") { g in g.output("y", build(g)) }
    let graph = try module.functions[0].graph.bound(to: [:])
    var properties = ValueProperties(of: graph)
    return properties.facts(graph.results[0].value, in: graph)
  }

  @Test func knownFormsAreFound() throws {
    let relu = try Self.facts { g in
      g.maximum(g.input("x", .float32, [4]), g.constant(0, .float32, [4]))
    }
    #expect(relu.isNonNegative && relu.real!.mayBeNaN && !relu.isFinite && !relu.isPositive)
    let square = try Self.facts { g in
      let x = g.input("x", .float32, [4])
      return x * x + g.constant(1, like: x)
    }
    #expect(square.isNonNegative && square.real!.low >= 1)
    let clamped = try Self.facts { g in
      let x = g.input("x", .float32, [4])
      return g.tanh(x) * g.constant(0, like: x)
    }
    #expect(!clamped.isZero && clamped.real!.low == 0 && clamped.real!.high == 0)
    let index = try Self.facts { g in g.argmax(g.input("x", .float32, [4, 9]), axis: 1) }
    #expect(index.integer == 0...8 && index.isFinite)
    let hot = try Self.facts { g in
      let ids = g.broadcast(g.input("ids", .int32, [4]), to: [4, 9], axes: [0])
      return g.convert(g.compare(.equal, ids, g.iota(.int32, [4, 9], axis: 1)), .float32)
    }
    #expect(hot.oneHotAxis == 1 && hot.isFinite && hot.isNonNegative)
    let uniform = try Self.facts { g in
      g.broadcast(g.input("x", .float32) * 2.0, to: [3, 4])
    }
    #expect(uniform.isUniform(TensorType(.float32, [3, 4])))
  }

  /// What is known around a body is known inside, and what is known of its results outside.
  @Test func factsPassThroughControlFlow() throws {
    let facts = try Self.facts { g in
      let x = g.input("x", .float32, [5, 3])
      let bound = g.abs(g.input("b", .float32, [3]))
      let (_, outputs) = g.scan(carried: [g.constant(0, .float32, [3])], inputs: [g.abs(x)]) {
        g, c, s in ([c[0] + s[0]], [g.minimum(s[0], bound)])
      }
      return outputs[0]
    }
    #expect(facts.isNonNegative)
    let carried = try Self.facts { g in
      let x = g.abs(g.input("x", .float32, [5, 3]))
      return g.scan(carried: [g.constant(0, .float32, [3])], inputs: [x]) { g, c, s in
        ([c[0] - s[0]], [])
      }.carried[0]
    }
    #expect(!carried.isNonNegative)
    let either = try Self.facts { g in
      let x = g.input("x", .float32, [3])
      return g.cond(g.input("p", .bool)) { g in
        [g.abs(x)]
      } otherwise: { g in
        [x * x]
      }[0]
    }
    #expect(either.isNonNegative)
  }

  /// Steady is what constants, captures and state that no run changes decide.
  @Test func steadyValuesStayTheSame() throws {
    let graph = try Graph(
      parsing: """
        %0 = input "x" : float32[2]
        %1 = state "w" : float32[2]
        %2 = state "m" : float32[2]
        %3 = constant {value = dense(uint64[], splat 1)} : uint64[]
        %4 = tanh %1 : float32[2]
        %5 = add %4, %0 : float32[2]
        %6 = add %4, %2 : float32[2]
        %7 = random_bits %3, %3 {shape = <2>} : uint32[2]
        %8 = multiply %4, %4 : float32[2]
        output "y" = %8
        update "m" = %6
        """)
    var properties = ValueProperties(of: graph)
    let steady = graph.types.indices.filter { properties.isSteady(ValueID($0), in: graph) }
    #expect(steady == [1, 3, 4, 8])
  }
}
