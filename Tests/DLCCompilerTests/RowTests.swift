import DLCCodegen
import DLCCompiler
import DLCGraph
import DLCRuntime
import DLCTensor
import DLCTestSupport
import DLCZoo
import Testing

/// A row has the same bits alone, among a few and among many.
@Suite struct RowTests {
  static let counts = [1, 2, 3, 17]
  static let many = 64

  /// Models whose batch is not named `n`, with sizes for a test.
  static let others: [String: (batch: String, sizes: [String: Int])] = [
    "matmul": ("M", ["N": 40, "K": 700]),
    "conv3x3": ("B", ["C": 8, "H": 9, "W": 9, "O": 8]),
    "softmax": ("N", ["D": 1000]), "layer_norm": ("N", ["D": 768]), "gelu": ("N", [:]),
    "attention": ("B", ["H": 2, "T": 20, "D": 16]),
  ]

  /// Results that mix the rows by their definition: derivatives of means over the batch, and a step in
  /// proportion to a norm.
  static let mixed: Set<String> = [
    "equations/architectures/bce.gradient.d_y", "equations/architectures/bce.gradient.d_y_hat",
    "equations/architectures/softmax_cross_entropy.gradient.d_z",
    "equations/generative/ddpm.gradient.d_eps", "equations/generative/ddpm.gradient.d_x0",
    "equations/generative/score.gradient.d_noise", "equations/generative/score.gradient.d_sigma",
    "equations/generative/score.gradient.d_x", "equations/generative/vae.gradient.d_eps",
    "equations/generative/vae.gradient.d_x", "equations/generative/vae.kl_gradient.d_mu",
    "equations/generative/vae.kl_gradient.d_sigma", "equations/optimizers/lamb.step.theta_next",
  ]

  @Test(arguments: Zoo.models.indices) func rowsOfTheZooDoNotDependOnTheirBatch(_ index: Int) throws
  {
    let model = Zoo.models[index]
    let module = try model.module()
    let (batch, sizes) = Self.others[model.name] ?? ("n", [:])
    guard module.dimensions.contains(where: { $0.name == batch }) else { return }
    for function in module.functions {
      let name = "\(model.name).\(function.name)"
      func axis(_ type: TensorType) -> Int? { type.shape.firstIndex { $0.name == batch } }
      let results = function.graph.results.filter { axis(function.graph.type($0.value)) != nil }
      guard !results.isEmpty, function.inputs.contains(where: { axis($0.type) != nil }) else {
        continue
      }
      func executable(_ rows: Int) throws -> Executable {
        let used = sizes.filter { size in function.graph.dimensionNames.contains(size.key) }
        let result = try Objects.compiler().compile(
          module, function: function.name,
          dimensions: used.merging([batch: rows]) { $1 })
        try result.initializeState(seed: 1)
        return result
      }
      let whole = try executable(Self.many)
      let arrays = Differential.arrays(
        whole.inputs.map(\.type), range: 0.05...0.95, seed: UInt64(index) + 1)
      let inputs = Dictionary(
        uniqueKeysWithValues: zip(whole.inputs.map(\.name), arrays))
      let all = try whole.run(inputs)
      for rows in Self.counts {
        var part = inputs
        for input in function.inputs {
          guard let axis = axis(input.type) else { continue }
          part[input.name] = Self.prefix(inputs[input.name]!, rows, axis)
        }
        let few = try executable(rows).run(part)
        for (got, want) in zip(few, all) {
          guard let output = results.first(where: { $0.name == got.name }),
            let axis = axis(function.graph.type(output.value))
          else { continue }
          #expect(
            (got.value == Self.prefix(want.value, rows, axis))
              != Self.mixed.contains("\(name).\(got.name)"),
            "\(name): '\(got.name)' with \(rows) rows differs from the first of \(Self.many)")
        }
      }
    }
  }

  /// The first `count` places of an axis.
  static func prefix(_ value: Tensor, _ count: Int, _ axis: Int) -> Tensor {
    var shape = value.shape
    let outer = shape[..<axis].reduce(1, *)
    let inner = shape[(axis + 1)...].reduce(value.dataType.byteCount, *)
    let row = shape[axis] * inner
    shape[axis] = count
    let result = Tensor(zeros: value.dataType, shape)
    for part in 0..<outer {
      UnsafeMutableRawBufferPointer(
        rebasing: result.storage.bytes[part * count * inner..<(part + 1) * count * inner]
      ).copyMemory(
        from: UnsafeRawBufferPointer(
          rebasing: value.storage.bytes[part * row..<part * row + count * inner]))
    }
    return result
  }

  /// Products in every layout of their operands: a row of the left operand, and a column of the right
  /// one, has the bits that it has among others. Depths of one part, of several, and of several groups.
  @Test(
    arguments: [
      (DataType.float32, "native"), (.float64, "native"), (.float32, "x86-64-v3"),
      (.float32, "x86-64-v2"), (.float64, "x86-64-v2"),
    ])
  func productsDoNotDependOnTheirExtents(_ type: DataType, _ target: String) throws {
    guard let compiler = Self.usable(target) else { return }
    for depth in target == "native" && type == .float32 ? [1, 37, 320, 700, 5003] : [37, 700] {
      let (rows, columns) = (depth > 1000 ? 9 : 33, depth > 1000 ? 18 : 35)
      let arrays = Differential.arrays(
        [TensorType(type, sizes: [rows, depth]), TensorType(type, sizes: [depth, columns])],
        range: -1...1, seed: UInt64(depth))
      for layout in target == "native" && type == .float32 ? [0, 1, 2, 3] : [0, 3] {
        let parts = [
          (rows, columns), (1, columns), (2, columns), (rows, 1), (1, 1), (1, 2), (7, 17),
        ]
        let results = try Self.products(compiler, arrays[0], arrays[1], parts, layout)
        for ((m, n), got) in zip(parts, results) {
          let want = Self.prefix(Self.prefix(results[0], m, 0), n, 1)
          #expect(
            got == want,
            "\(type) \(target): \(m) x \(n) of depth \(depth) in layout \(layout)")
        }
      }
    }
  }

  /// A compiler for a target that this machine can run.
  static func usable(_ target: String) -> Compiler? {
    let compiler = Objects.compiler(target)
    var module = Module("probe")
    do {
      try module.function("forward") { g in
        g.output("y", g.exponential(g.input("x", .float32, [1])))
      }
      _ = try compiler.compile(module).run(["x": Tensor([1], [0] as [Float])])
      return compiler
    } catch { return nil }
  }

  /// Of a [m, k] and b [k, n] the products of the first rows and columns; bit 0 of the layout gives a by
  /// columns, bit 1 gives b by columns.
  static func products(
    _ compiler: Compiler, _ a: Tensor, _ b: Tensor, _ parts: [(Int, Int)], _ layout: Int
  ) throws -> [Tensor] {
    var module = Module("products")
    var inputs: [String: Tensor] = [:]
    try module.function("forward") { g in
      func operand(_ name: String, _ x: Tensor, _ isTransposed: Bool) -> Value {
        let (rows, columns) = (x.shape[0], x.shape[1])
        guard isTransposed else {
          inputs[name] = x
          return g.input(name, x.dataType, x.shape.map { Size($0) })
        }
        let values = x.doubles
        inputs[name] = Tensor(
          x.dataType, [columns, rows],
          rounding: (0..<columns).flatMap { c in (0..<rows).map { values[$0 * columns + c] } })
        let stored = g.input(name, x.dataType, [Size(columns), Size(rows)])
        return g.transpose(stored, [1, 0])
      }
      for (m, n) in parts {
        let x = operand("a\(m) \(n)", prefix(a, m, 0), layout & 1 != 0)
        let y = operand("b\(m) \(n)", prefix(b, n, 1), layout & 2 != 0)
        g.output("\(m) \(n)", g.dotGeneral(x, y, lhsContracting: [1], rhsContracting: [0]))
      }
    }
    return try compiler.compile(module).run(inputs).map(\.value)
  }

  /// What a product computes of its operand on the way, where it has one row, does not change its bits.
  @Test func operandsThatAreComputedInsideKeepTheBits() throws {
    let keys = Differential.arrays([TensorType(.float32, [2, 300, 40])], range: -1...1, seed: 3)[0]
    let rows = Differential.arrays([TensorType(.float32, [2, 3, 40])], range: -1...1, seed: 4)[0]
    func scores(_ count: Int, _ q: Tensor) throws -> [Float] {
      var module = Module("scores")
      try module.function("forward", training: false) { g in
        let k = g.input("k", .float32, [2, 300, 40])
        g.output(
          "y",
          g.matmul(
            g.input("q", .float32, [2, Size(count), 40]), g.transpose(k * 0.3, [0, 2, 1])))
      }
      return try Objects.compiler().compile(module).run(["k": keys, "q": q])[0].value
        .scalars(Float.self)
    }
    let all = try scores(3, rows)
    let values = rows.scalars(Float.self)
    for row in 0..<3 {
      var query: [Float] = []
      for batch in 0..<2 {
        let first = (batch * 3 + row) * 40
        query += values[first..<first + 40]
      }
      let alone = try scores(1, Tensor([2, 1, 40], query))
      for batch in 0..<2 {
        let (one, among) = (batch * 300, (batch * 3 + row) * 300)
        #expect(Array(alone[one..<one + 300]) == Array(all[among..<among + 300]))
      }
    }
  }
}
