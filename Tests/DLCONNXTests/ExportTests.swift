import DLCCompiler
import DLCGraph
import DLCReference
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCTraining
import Testing

@testable import DLCONNX

/// Graphs that are written as ONNX models and read back give what they gave before.
@Suite struct ExportTests {
  /// The results of a module's function after it went through a file.
  static func roundTrip(
    _ module: Module, _ inputs: [String: Tensor], opset: Int, isReference: Bool = true
  ) throws -> (model: ONNXModel, results: [(name: String, value: Tensor)]) {
    var export = ModelExport()
    export.opset = opset
    let bytes = try export.encode(module, function: nil, file: "m.onnx").model
    let model = try bytes.withUnsafeBytes { try ONNXModel($0, path: "m.onnx") }
    let session = try ONNXSession(model, cache: nil, isReference: isReference)
    return (model, try session.run(inputs))
  }

  /// What has no form in ONNX; an operator that is refused and not named here is a mistake.
  private static func isRefused(_ sample: OperatorSample, opset: Int) -> Bool {
    let type = sample.operands.first?.dataType
    let isOld = opset < 18
    switch sample.operation {
    case .bitcast: return true
    case .randomBits: return isOld
    case .unary(let o): return o.function == .not && type != .bool && isOld
    case .binary(let o):
      switch o.function {
      case .and, .or, .xor: return type != .bool && isOld
      case .shift_right_arithmetic: return isOld
      case .divide, .remainder, .maximum, .minimum: return type == .uint64 && isOld
      case .power: return type == .uint64
      default: return false
      }
    case .reduce(let o): return [.and, .or].contains(o.combiner) && type != .bool && isOld
    case .cumulative(let o):
      return [.and, .or].contains(o.geometry.combiner) && type != .bool && isOld
    case .scatter(let o):
      return [.maximum, .minimum].contains(o.combiner) && isOld
    case .compare: return type == .uint64 && isOld
    default: return false
    }
  }

  /// Operators that a model says in one node are written as one.
  @Test(arguments: [
    "Softmax", "LogSoftmax", "Gelu", "LayerNormalization", "BatchNormalization",
  ])
  func compositesStand(_ name: String) throws {
    func body(_ g: FunctionBuilder, _ x: Value, _ v: Value) -> Value {
      switch name {
      case "Softmax": g.softmax(x, axis: 1)
      case "LogSoftmax": g.logSoftmax(x)
      case "Gelu": g.gelu(x)
      case "LayerNormalization": g.layerNorm(x, v, v)
      default: g.batchNorm(x, gamma: v, beta: v, mean: v, variance: v)
      }
    }
    var module = Module("m")
    try module.function("forward") { g in
      g.output("y", body(g, g.input("x", .float32, [3, 4]), g.input("v", .float32, [4])))
    }
    let types = [TensorType(.float32, sizes: [3, 4]), TensorType(.float32, sizes: [4])]
    let arrays = Differential.arrays(types, range: 0.5...2, seed: 5)
    let inputs = ["x": arrays[0], "v": arrays[1]]
    let want = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:]
    ).outputs[0].value
    let (model, results) = try Self.roundTrip(module, inputs, opset: 21)
    #expect(model.graph.nodes.map(\.type).filter { $0 != "Identity" } == [name])
    #expect(Differential.error(results[0].value, want, ulps: 16, scale: 1) <= 1)
  }

  /// Numbers on both sides of 2^63, which int64 divides otherwise.
  @Test(arguments: [BinaryFunction.divide, .remainder, .maximum, .minimum])
  func wideUnsignedNumbersAreThoseOfTheInterpreter(_ function: BinaryFunction) throws {
    let numbers: [UInt64] = [
      0, 1, 2, 3, 7, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, .max - 1, .max,
    ]
    let count = numbers.count
    var module = Module("m")
    try module.function("forward") { g in
      let shape = [Size(count * count)]
      let (a, b) = (g.input("a", .uint64, shape), g.input("b", .uint64, shape))
      g.output("y", g.binary(function, a, b))
    }
    func tensor(_ pick: (Int) -> Int) -> Tensor {
      let values = (0..<count * count).map { Int64(bitPattern: numbers[pick($0)]) }
      return Tensor(.uint64, [count * count], truncating: values)
    }
    let inputs = ["a": tensor { $0 / count }, "b": tensor { $0 % count }]
    let want = try Interpreter().run(
      module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:]
    ).outputs[0].value
    let results = try Self.roundTrip(module, inputs, opset: 21).results
    #expect(results[0].value == want)
  }

  /// ONNX Runtime has no kernel that pads elements of 16 bits.
  @Test(arguments: [DataType.int16, .uint16]) func shortIntegersArePaddedWide(_ type: DataType)
    throws
  {
    var module = Module("m")
    try module.function("forward") { g in
      let x = g.input("x", type, [3])
      g.output("y", g.pad(x, 9, low: [1], high: [2], interior: [1]))
    }
    let x = Tensor(type, [3], truncating: [1, 2, 3])
    let (model, results) = try Self.roundTrip(module, ["x": x], opset: 21)
    #expect(results[0].value.type == TensorType(type, sizes: [8]))
    #expect(results[0].value.integers == [9, 1, 9, 2, 9, 3, 9, 9])
    #expect(model.graph.nodes.contains { $0.type == "Pad" })
    let wide = Set(
      model.graph.nodes.filter { $0.type == "Pad" }.flatMap { Array($0.inputs.prefix(1)) })
    #expect(!wide.contains("x"))
  }

  @Test(arguments: DLCGraph.Operation.operators.map { $0.mnemonics[0] }, [17, 21])
  func everyOperatorKeepsItsMeaning(_ mnemonic: String, _ opset: Int) throws {
    let type = DLCGraph.Operation.operators.first { $0.mnemonics[0] == mnemonic }!
    // The interpreter of convolutions is slow.
    let isReference = type != Convolution.self
    for sample in type.samples {
      let module = try Differential.module(sample)
      let arrays = Differential.arrays(sample.operands, range: sample.range, seed: 3)
      let inputs = Dictionary(
        uniqueKeysWithValues: arrays.enumerated().map { ("x\($0.offset)", $0.element) })
      let expected =
        isReference
        ? try Interpreter().run(
          module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:]
        ).outputs : try Compiler().compile(module).run(inputs)
      do {
        let results = try Self.roundTrip(
          module, inputs, opset: opset, isReference: isReference
        ).results
        for (got, want) in zip(results, expected) {
          // What runtimes have kernels of float32 for is written in it.
          func single(_ t: Tensor) -> Tensor {
            t.dataType == .float64 ? Tensor(.float32, t.shape, rounding: t.doubles) : t
          }
          let error = Differential.error(single(got.value), single(want.value), ulps: 64, scale: 8)
          #expect(error <= 1, "\(module.text)")
        }
      } catch let error as DLCError {
        #expect(
          error.code == .unsupported && Self.isRefused(sample, opset: opset),
          "\(error) \(module.text)")
      }
    }
  }
}
