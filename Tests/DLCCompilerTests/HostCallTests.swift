import DLCCompiler
import DLCFormats
import DLCGraph
import DLCProgram
import DLCTensor
import DLCTestSupport
import Foundation
import Testing

@testable import DLCRuntime

/// Programs that call the process in the midst of their kernels.
@Suite struct HostCallTests {
  /// A product, its rows sorted, another product; and the program whose sort is a function of the host.
  static func builds() throws -> (kernels: Build, host: Program) {
    var module = Module("m")
    try module.function("f") { g in
      let x = g.input("x", .float32, [96, 64])
      let h = g.tanh(g.matmul(x, g.input("w", .float32, [64, 80])))
      let sorted = g.sort([h], axis: 1)[0]
      g.output("y", g.matmul(sorted, g.input("v", .float32, [80, 48])))
      g.output("z", g.tanh(g.tanh(x)))
    }
    let build = try Objects.compiler().build(module, function: nil, dimensions: [:])
    var program = build.program
    let index = try #require(program.steps.firstIndex { $0.name.contains("sort") })
    program.hostFunctions = [
      HostFunctionEntry("sort rows", operands: program.operands(of: program.steps[index]))
    ]
    program.steps[index].kind = .hostCall(HostFunctionID(0))
    program.steps[index].name = "sort rows"
    program.steps[index].tileCount = 1
    return (build, program)
  }

  /// Rows of 80 numbers in ascending order.
  static let sortRows: HostFunction = { operands in
    let input = (0..<operands.count).first { operands.isRead($0) }!
    let numbers = operands.withBytes(input) { bytes in
      (0..<bytes.byteCount / 4).map { bytes.unsafeLoad(fromByteOffset: 4 * $0, as: Float.self) }
    }
    let output = (0..<operands.count).first { !operands.isRead($0) }!
    operands.withMutableBytes(output) { bytes in
      for row in 0..<numbers.count / 80 {
        for (column, number) in numbers[row * 80..<row * 80 + 80].sorted().enumerated() {
          bytes.storeBytes(of: number, toByteOffset: 4 * (row * 80 + column), as: Float.self)
        }
      }
    }
  }

  static func inputs(_ executable: Executable) -> [String: Tensor] {
    let ports = executable.inputs
    let arrays = Differential.arrays(ports.map(\.type), range: -1...1, seed: 3)
    return Dictionary(uniqueKeysWithValues: zip(ports.map(\.name), arrays))
  }

  static func file(_ program: Program, _ build: Build) -> [UInt8] {
    ProgramFile.encode(
      program, constants: build.constants, prepared: nil, code: build.code, states: [:], module: [])
  }

  static func read(_ bytes: [UInt8]) throws -> ProgramFile.Contents {
    let path = NSTemporaryDirectory() + "/dlc-host-\(UUID().uuidString).dlc"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return try ProgramFile.read(path)
  }

  /// From a file, for any number of threads, as often as it is run: the bits of the program without a call.
  @Test(arguments: [1, 2, 4]) func bitsAreThoseOfKernels(_ threads: Int) throws {
    let (build, program) = try Self.builds()
    let contents = try Self.read(Self.file(program, build))
    #expect(contents.program == program)
    let executable = try Executable(contents, hostFunctions: ["sort rows": Self.sortRows])
    let inputs = Self.inputs(executable)
    let want = try build.executable.run(inputs, threads: 1)
    for _ in 0..<20 {
      let got = try executable.run(inputs, threads: threads)
      for (a, b) in zip(got, want) { #expect(a.value == b.value, "\(a.name)") }
    }
    // The call is seen once, on the thread that runs the program.
    let step = try #require(program.steps.firstIndex { $0.kernel == nil })
    let events = try executable.trace(inputs, threads: threads).filter { $0.step == step }
    #expect(events.count == 1 && events[0].worker == 0)
    #expect(try executable.profile(inputs, threads: threads)[step] > 0)
    #expect(program.lines(program.instructions, "")[step].contains("host call sort rows("))
  }

  @Test func functionsMustBeThere() throws {
    let (build, program) = try Self.builds()
    let contents = try Self.read(Self.file(program, build))
    let error = #expect(throws: DLCError.self) { try Executable(contents) }
    #expect(
      error?.message == "the program calls the host function 'sort rows', which is not registered")
    let near = #expect(throws: DLCError.self) {
      try Executable(contents, hostFunctions: ["sort row": Self.sortRows])
    }
    #expect(near?.remedy == "did you mean 'sort row'?")
  }

  /// Version 4 of the format is what has no host calls.
  @Test func olderProgramsAreRead() throws {
    let (build, _) = try Self.builds()
    var bytes = Self.file(build.program, build)
    func sign() {
      let digest = bytes.withUnsafeBytes { ProgramFile.digest($0) }
      bytes.replaceSubrange(16..<ProgramFile.headerSize, with: digest)
    }
    bytes[7] = 4
    sign()
    let contents = try Self.read(bytes)
    #expect(contents.program == build.program)
    let inputs = Self.inputs(build.executable)
    let (got, want) = (try Executable(contents).run(inputs), try build.executable.run(inputs))
    for (a, b) in zip(got, want) { #expect(a.value == b.value) }
    bytes[7] = 3
    sign()
    #expect(throws: DLCError.self) { try Self.read(bytes) }
  }
}
