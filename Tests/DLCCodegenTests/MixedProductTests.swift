import CMachine
import DLCCodegen
import DLCKernel
import DLCTensor
import Testing

/// Products on register tiles whose factors have other types than their sums.
@Suite struct MixedProductTests {
  static let types: [ContractTypes] = [
    ContractTypes(.float32), ContractTypes(.float64), ContractTypes(.int8, .uint8, into: .int32),
    ContractTypes(.uint8, .int8, into: .int32), ContractTypes(.int8, .int8, into: .int32),
    ContractTypes(.bfloat16, .bfloat16, into: .float32),
    ContractTypes(.float16, .float16, into: .float32),
    ContractTypes(.float32, .float16, into: .float64),
    ContractTypes(.float32, .float32, into: .float64),
    ContractTypes(.float64, .float32, into: .float64),
    ContractTypes(.float32, .float64, into: .float64),
    ContractTypes(.float16, .float32, into: .float32),
    ContractTypes(.float32, .float16, into: .float32),
  ]

  /// Whole numbers that every order of sums gives exactly: all that 8 bits hold, small ones otherwise.
  static func numbers(_ count: Int, _ type: DataType, _ seed: Int) -> [Double] {
    (0..<count).map { i in
      switch type {
      case .uint8: Double((i * 37 + seed) % 256)
      case .int8: Double((i * 37 + seed) % 256 - 128)
      default: Double((i * 7 + seed) % 11 - 5)
      }
    }
  }

  /// Rows and columns of whole tiles and of rests, for every register tile of the target.
  @Test(arguments: types.indices) func agreesWithALoop(_ index: Int) throws {
    let types = Self.types[index]
    let target = try LLVMLibrary().host
    let width = target.tile.vectors * target.vectorBytes / types.c.byteCount
    for (rows, columns, depth) in [
      (target.tile.rows, width, 5), (target.tile.rows + 3, 2 * width, 17), (2, width - 1, 1),
      (1, 3, 64),
    ] {
      let panels = (columns + width - 1) / width
      let a = Self.numbers(rows * depth, types.a, 3)
      let b = Self.numbers(depth * columns, types.b, 8)
      var packed = [Double](repeating: 0, count: panels * depth * width)
      for k in 0..<depth {
        for n in 0..<columns {
          packed[(n / width * depth + k) * width + n % width] = b[k * columns + n]
        }
      }
      let product = ContractStatement(
        types: types, a: .parameter(0), aBase: IndexExpression(0), aRowStride: depth,
        aDepthStride: 1, b: .parameter(1), bBase: IndexExpression(0), bPanelStride: depth * width,
        bDepthStride: width, panelWidth: width, c: .parameter(2), cBase: IndexExpression(0),
        cRowStride: columns, cIsPadded: false, rows: BlockExtent(rows),
        columns: BlockExtent(columns), depth: depth, tileRows: target.tile.rows,
        depthBlock: depth)
      let kernel = Kernel(
        name: "product",
        parameters: [
          Parameter(types.a, a.count, isOutput: false),
          Parameter(types.b, packed.count, isOutput: false),
          Parameter(types.c, rows * columns, isOutput: true),
        ], locals: [], grid: [], body: [.contract(product)], flops: 0, bytesMoved: 0)
      #expect(kernel.violations().isEmpty)
      let got = try Self.run(
        kernel, [Tensor(rounding: a, types.a), Tensor(rounding: packed, types.b)],
        Tensor(zeros: types.c, [rows * columns]), target)
      for m in 0..<rows {
        for n in 0..<columns {
          let want = (0..<depth).reduce(0) { $0 + a[m * depth + $1] * b[$1 * columns + n] }
          #expect(got.doubles[m * columns + n] == want, "\(types) [\(m), \(n)]")
        }
      }
    }
  }

  /// Sums that do not hold their factors are found, not computed.
  @Test func narrowSumsAreViolations() {
    let product = ContractStatement(
      types: ContractTypes(.float64, .float32, into: .float32), a: .parameter(0),
      aBase: IndexExpression(0), aRowStride: 1, aDepthStride: 1, b: .parameter(1),
      bBase: IndexExpression(0), bPanelStride: 8, bDepthStride: 8, panelWidth: 8, c: .parameter(2),
      cBase: IndexExpression(0), cRowStride: 8, cIsPadded: true, rows: BlockExtent(1),
      columns: BlockExtent(8), depth: 1, tileRows: 0, depthBlock: 1)
    let kernel = Kernel(
      name: "product",
      parameters: [
        Parameter(.float64, 1, isOutput: false), Parameter(.float32, 8, isOutput: false),
        Parameter(.float32, 8, isOutput: true),
      ], locals: [], grid: [], body: [.contract(product)], flops: 0, bytesMoved: 0)
    let found = kernel.violations().joined(separator: "\n")
    #expect(found.contains("float32 does not hold the factors float64"))
    #expect(found.contains("a register tile of 0 rows"))
  }

  private static func run(_ kernel: Kernel, _ inputs: [Tensor], _ result: Tensor, _ target: Target)
    throws -> Tensor
  {
    let image = try CodeGenerator(target).generate([kernel])
    let code = image.bytes.withUnsafeBytes { dlc_map_code($0.baseAddress, $0.count)! }
    defer { dlc_unmap_code(code, image.bytes.count) }
    let pointers = (inputs + [result]).map { $0.storage.bytes.baseAddress }
    withExtendedLifetime((inputs, result)) {
      pointers.withUnsafeBufferPointer {
        dlc_call_kernel(code + image.symbols["product"]!.lowerBound, $0.baseAddress, 0, nil)
      }
    }
    return result
  }
}

extension Tensor {
  fileprivate init(rounding numbers: [Double], _ type: DataType) {
    switch type {
    case .int8: self.init([numbers.count], numbers.map { Int8($0) })
    case .uint8: self.init([numbers.count], numbers.map { UInt8($0) })
    default: self.init(type, [numbers.count], rounding: numbers)
    }
  }
}
