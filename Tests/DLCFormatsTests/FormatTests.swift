import DLCFormats
import DLCGraph
import DLCProgram
import DLCTensor
import DLCTestSupport
import DLCZoo
import Foundation
import Testing

@Suite struct FormatTests {
  static let tensors: [(name: String, value: Tensor)] = [
    ("a", Tensor([2, 3], [1, -2, 3, 4, 5, .infinity] as [Float])),
    ("b", Tensor([], [7] as [Int64])),
    ("c", Tensor([0, 4], [] as [Double])), ("d", Tensor(.float16, [3], rounding: [1, 0.5, -2])),
    ("e", Tensor(.bool, [4], truncating: [1, 0, 0, 1])),
    ("weird \"name\" é", Tensor(.uint8, [5], truncating: [1, 2, 3, 4, 255])),
  ]

  static func temporary(_ name: String) -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent(
      "dlc-\(ProcessInfo.processInfo.processIdentifier)-\(name)"
    ).path
  }

  static func equal(_ a: [(name: String, value: Tensor)], _ b: [(name: String, value: Tensor)])
    -> Bool
  {
    let byName = Dictionary(uniqueKeysWithValues: b.map { ($0.name, $0.value) })
    return a.count == b.count && a.allSatisfy { byName[$0.name] == $0.value }
  }

  @Test func npzRoundTrip() throws {
    let path = Self.temporary("a.npz")
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Npz.write(Self.tensors, to: path)
    #expect(Self.equal(try Npz.read(path), Self.tensors))
    #expect(try Npz.encode(Self.tensors) == Npz.encode(Self.tensors))
  }

  @Test func npyOrders() throws {
    func array(_ header: String, _ data: [UInt8]) throws -> Tensor {
      var text = header
      while (text.utf8.count + 11) % 16 != 0 { text += " " }
      text += "\n"
      let bytes: [UInt8] =
        [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.utf8.count), 0] + Array(text.utf8) + data
      return try bytes.withUnsafeBytes { try Npy.read($0, name: "t") }
    }
    let fortran = try array(
      "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", [1, 2, 3, 4, 5, 6])
    #expect(fortran.integers == [1, 3, 5, 2, 4, 6])
    let big = try array(
      "{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }", [1, 2, 0xff, 0xfe])
    #expect(big.integers == [258, -2])
    #expect(throws: DLCError.self) {
      try array("{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }", [0, 0])
    }
    #expect(throws: DLCError.self) {
      try array("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", [0])
    }
  }

  @Test func safetensorsRoundTripInPlace() throws {
    let path = Self.temporary("a.safetensors")
    defer { try? FileManager.default.removeItem(atPath: path) }
    let all = Self.tensors + [("bf", Tensor(.bfloat16, [2], rounding: [1, -3]))]
    try Safetensors.write(all, to: path)
    #expect(Self.equal(try Safetensors.read(path), all))
  }

  @Test(arguments: [
    #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
    #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
    #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
    #"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
    #"{"a":{"dtype":"X","shape":[2],"data_offsets":[0,8]}}"#,
    #"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
    #"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#,
    #"{"a":"#, "[]",
  ]) func badSafetensorsAreRefused(_ header: String) throws {
    var bytes =
      (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) } + Array(header.utf8)
    bytes += [UInt8](repeating: 0, count: 8)
    #expect(throws: DLCError.self) {
      try Self.withBytes(bytes) { try Safetensors.read($0, path: "t", owner: NSObject()) }
    }
  }

  static func withBytes<R>(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws -> R) rethrows
    -> R
  {
    try bytes.withUnsafeBytes(body)
  }

  @Test func modelRoundTripIsDeterministic() throws {
    for model in Zoo.models {
      let module = try model.module()
      let bytes = ModuleFile.encode(module)
      #expect(bytes == ModuleFile.encode(module))
      #expect(try Self.withBytes(bytes) { try ModuleFile.decode($0, path: model.name) } == module)
    }
  }

  @Test func largeWeightsGoToASibling() throws {
    let path = Self.temporary("big.pb")
    let sibling = path.dropLast(3) + ".safetensors"
    defer {
      for file in [path, String(sibling)] { try? FileManager.default.removeItem(atPath: file) }
    }
    var module = try Zoo.model("digits_cnn")!.module()
    try module.setValue(Tensor(splat: 0.5, .float32, [32, 16, 3, 3]), of: "K2")
    try module.setValue(Tensor(splat: 0.25, .float32, [10]), of: "b")
    try module.save(path)
    #expect(FileManager.default.fileExists(atPath: String(sibling)))
    #expect(try Module(contentsOf: path) == module)
  }

  @Test func newerSchemasAreRefused() throws {
    var bytes = ModuleFile.encode(try Zoo.model("gelu")!.module())
    #expect(bytes[0] == 8 && bytes[1] == 1)
    bytes[1] = 99
    let error = #expect(throws: DLCError.self) {
      try Self.withBytes(bytes) { try ModuleFile.decode($0, path: "m.pb") }
    }
    #expect(error?.code == .unsupported)
  }

  @Test func committedSchemaIsCurrent() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
      "../.."
    ).standardized
    let out = Self.temporary("schema")
    defer { try? FileManager.default.removeItem(atPath: out) }
    let process = Process()
    process.executableURL = root.appendingPathComponent("Tools/generate-schema")
    process.arguments = [out]
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    for file in ["dlc.pb-c.c", "include/dlc.pb-c.h"] {
      let made = try Data(contentsOf: URL(fileURLWithPath: out).appendingPathComponent(file))
      #expect(
        try made
          == Data(contentsOf: root.appendingPathComponent("Sources/CProtobufSchema/\(file)")),
        "run Tools/generate-schema")
    }
  }

  /// Values of the reference implementation's documentation, and the same in parts.
  @Test func digest() {
    #expect(Digest.hex([UInt8]()) == "99aa06d3014798d86001c324468d497f")
    let bytes = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let whole = Digest()
    for part in [0..<1, 1..<999, 999..<100_000] { whole.update(Array(bytes[part])) }
    #expect(whole.finish() == Digest.hash(bytes))
    var seen: Set<String> = [Digest.hex(bytes)]
    for position in stride(from: 0, to: bytes.count, by: 997) {
      var copy = bytes
      copy[position] ^= 1
      seen.insert(Digest.hex(copy))
    }
    #expect(seen.count == 102)
  }
}

/// Seeded damage to every format: the readers give an error or a value, and never trap.
@Suite struct MutationTests {
  static func mutate(_ original: [UInt8], _ random: inout SplitMix) -> [UInt8] {
    var bytes = original
    for _ in 0...Int(random.next() % 3) {
      if bytes.isEmpty { break }
      let position = Int(random.next() % UInt64(bytes.count))
      switch random.next() % 7 {
      case 0: bytes[position] = UInt8(truncatingIfNeeded: random.next())
      case 1: bytes[position] ^= 1 << UInt8(random.next() % 8)
      case 2: bytes.removeSubrange(position...)
      case 3: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: position)
      case 4: bytes.removeSubrange(position..<min(bytes.count, position + Int(random.next() % 9)))
      case 5:
        let end = min(bytes.count, position + 8)
        for i in position..<end { bytes[i] = [0xff, 0x7f, 0x80, 0][Int(random.next() % 4)] }
      default:
        let from = Int(random.next() % UInt64(bytes.count))
        let count = min(Int(random.next() % 32), bytes.count - from)
        bytes.insert(contentsOf: bytes[from..<from + count], at: position)
      }
    }
    return bytes
  }

  static func program() throws -> [UInt8] {
    var program = Program()
    program.kernels = [2, 1].map {
      KernelEntry(
        "k", 0, tileCount: $0,
        operands: [.init(16, isWritten: false), .init(16, isWritten: true)])
    }
    program.symbols = [CodeSymbol("k", 0..<1)]
    program.states = [
      StatePort(
        name: "w", type: .float32, shape: [3], isUpdated: true, initializer: "normal",
        initializerArguments: [0, 1], isParameter: true)
    ]
    program.buffers = [
      BufferSlot(.float32, [4], .input(0)), BufferSlot(.float32, [4], .output(0)),
      BufferSlot(.float32, [4], .arena(64)),
      BufferSlot(.float32, [3], .nextState(0)), BufferSlot(.float32, [2], .constant(0)),
      BufferSlot(.float32, [2], .prepared(0)),
    ]
    program.inputs = [Port("x", BufferID(0))]
    program.outputs = [Port("y", BufferID(1))]
    program.steps = [
      Step(
        .kernel(KernelID(0)), buffers: [BufferID(0), BufferID(2)], tileCount: 2, dependencies: [],
        name: "k", flops: 1, bytesMoved: 2),
      Step(
        .kernel(KernelID(1)), buffers: [BufferID(2), BufferID(1)], tileCount: 1,
        dependencies: [StepID(0)], name: "k", flops: 1, bytesMoved: 2),
    ]
    program.instructions = [
      .loop(
        LoopInstruction(
          id: 0, count: 3, reverse: true, predicate: nil, condition: [], carried: [],
          body: [.run(0..<program.steps.count)]))
    ]
    program.loopCount = 1
    program.arenaBytes = 128
    program.preparedBytes = 64
    return ProgramFile.encode(
      program, constants: [UInt8](repeating: 1, count: 64), prepared: nil, code: [0xc3],
      states: ["w": Tensor([3], [1, 2, 3] as [Float])],
      module: ModuleFile.encode(try Zoo.model("gelu")!.module()))
  }

  static let readers:
    [(String, @Sendable () throws -> [UInt8], @Sendable (UnsafeRawBufferPointer) throws -> Void)] =
      [
        (
          "model", { ModuleFile.encode(try Zoo.model("digits_cnn")!.module()) },
          { _ = try ModuleFile.decode($0, path: "m") }
        ),
        (
          "model with loops",
          {
            var module = Module("loops")
            module.dimension("T", default: 3)
            try module.function("f") { g in
              let x = g.input("x", .float32, ["T", 4])
              let table = g.parameter("table", [9, 4], .zeros)
              let rows = g.embedding(table, g.input("ids", .int32, ["T"]))
              let (c, s) = g.scan(carried: [g.constant(0, .float32, [4])], inputs: [x + rows]) {
                g, c, s in
                let next = g.cond(g.compare(.less, g.max(s[0], axes: [0]), g.constant(0, .float32)))
                {
                  _ in
                  [c[0]]
                } otherwise: { g in
                  [g.tanh(c[0] + s[0])]
                }
                return (next, [g.sort([next[0]])[0]])
              }
              let n = g.whileLoop([g.constant(0, .int32)]) { g, n in
                g.compare(.less, n[0], g.constant(3, .int32))
              } body: { g, n in
                [n[0] + g.constant(1, .int32)]
              }
              g.output("c", c[0])
              g.output("s", s[0])
              g.output("n", n[0])
            }
            return ModuleFile.encode(module)
          },
          {
            let module = try ModuleFile.decode($0, path: "m")
            // What is read can be printed, and that can be read.
            _ = try? Module(parsing: module.text)
          }
        ),
        (
          "text", { Array(try Zoo.model("layer_norm")!.module().text.utf8) },
          { _ = try Module(parsing: String(decoding: $0, as: UTF8.self)) }
        ),
        ("npz", { try Npz.encode(FormatTests.tensors) }, { _ = try Npz.contents($0, path: "a") }),
        (
          "deflated npz",
          {
            let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
              .appendingPathComponent("../../Graphs/digits_test.npz")
            return [UInt8](try Data(contentsOf: root))
          }, { _ = try Npz.contents($0, path: "a") }
        ),
        (
          "safetensors", { Safetensors.encode(FormatTests.tensors) },
          { _ = try Safetensors.read($0, path: "s", owner: NSObject()) }
        ),
        (
          "program envelope", { try MutationTests.program() },
          { bytes in
            // With the digest made right again, so that what it guards is reached.
            var copy = Array(bytes)
            if copy.count > ProgramFile.headerSize {
              copy.replaceSubrange(16..<32, with: copy.withUnsafeBytes { ProgramFile.digest($0) })
            }
            let path = FormatTests.temporary("p.dlc")
            try OutputFile.write(copy, to: path)
            defer { try? FileManager.default.removeItem(atPath: path) }
            _ = try ProgramFile.read(path)
          }
        ),
      ]

  @Test(arguments: readers.indices) func damagedFilesGiveErrors(_ index: Int) throws {
    let (name, make, read) = Self.readers[index]
    let original = try make()
    try FormatTests.withBytes(original) { try read($0) }
    var random = SplitMix(state: UInt64(index) + 1)
    var refused = 0
    let rounds = name == "program envelope" ? 2000 : 4500
    for _ in 0..<rounds {
      let bytes = Self.mutate(original, &random)
      do { try FormatTests.withBytes(bytes) { try read($0) } } catch is DLCError { refused += 1 }
    }
    #expect(refused > rounds / 4, "\(name): only \(refused) of \(rounds) refused")
  }

  @Test func everyTruncationIsRefused() throws {
    for (name, make, read) in Self.readers where name == "safetensors" || name == "npz" {
      let original = try make()
      for count in 0..<original.count {
        #expect(throws: DLCError.self, "\(name) cut to \(count)") {
          try FormatTests.withBytes(Array(original[..<count])) { try read($0) }
        }
      }
    }
  }

  /// What looks for a caller's line reads every mapped file, while others may end their mappings.
  @Test func mappedFilesMayGoWhileImagesAreRead() async throws {
    let path = NSTemporaryDirectory() + "mapped-\(UUID().uuidString)"
    try Data(repeating: 1, count: 20_000).write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<3 {
        group.addTask { for _ in 0..<3000 { _ = try? MappedFile(path) } }
      }
      for _ in 0..<20 { _ = SourceLocation.countLoadedImages() }
    }
  }
}
