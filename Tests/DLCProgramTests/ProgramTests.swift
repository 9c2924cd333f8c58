import DLCProgram
import DLCTensor
import Testing

/// Programs as data: what the verifier finds, and how they are printed.
@Suite struct ProgramTests {
  /// Two steps that copy an input through the arena to an output.
  static func program() -> Program {
    var program = Program()
    program.kernels = [
      KernelEntry(
        "copy", 0, tileCount: 1,
        operands: [
          OperandAccess(16, isWritten: false), OperandAccess(16, isWritten: true),
        ])
    ]
    program.symbols = [CodeSymbol("copy", 0..<16)]
    program.buffers = [
      BufferSlot(.float32, [4], .input(0)), BufferSlot(.float32, [4], .arena(0)),
      BufferSlot(.float32, [4], .output(0)),
    ]
    program.inputs = [Port("x", BufferID(0))]
    program.outputs = [Port("y", BufferID(2))]
    program.arenaBytes = 64
    for index in 0..<2 {
      var step = Step(
        .kernel(KernelID(0)), buffers: [BufferID(index), BufferID(index + 1)], tileCount: 1,
        dependencies: index == 0 ? [] : [StepID(0)], name: "copy", flops: 0, bytesMoved: 32)
      step.origin = index == 0 ? "block/copy at Model.swift:3" : ""
      program.steps.append(step)
    }
    program.instructions = [.run(0..<2)]
    return program
  }

  @Test func soundProgramsAreSound() throws {
    let program = Self.program()
    try program.verify(codeBytes: 16)
    #expect(program.bytesMoved == 64)
    let lines = program.lines(program.instructions, "")
    #expect(lines.count == 2)
    #expect(
      lines[0].contains("copy(b0, b1)") && lines[0].hasSuffix("of block/copy at Model.swift:3"))
    #expect(lines[1].contains("after 0"))
  }

  /// A step in the middle that calls the process.
  static func hostProgram() -> Program {
    var program = Self.program()
    program.hostFunctions = [
      HostFunctionEntry(
        "double",
        operands: [OperandAccess(16, isWritten: false), OperandAccess(16, isWritten: true)])
    ]
    program.steps[1].kind = .hostCall(HostFunctionID(0))
    program.steps[1].name = "double"
    return program
  }

  @Test func hostCallsAreSteps() throws {
    let program = Self.hostProgram()
    try program.verify(codeBytes: 16)
    #expect(
      program.lines(program.instructions, "")[1]
        == "step 1 host call double(b1, b2) tiles 1 after 0")
    #expect(program.uses(program.steps[1]).map(\.isWrite) == [false, true])
    let changes: [(String, (inout Program) -> Void)] = [
      ("a function that is not there", { $0.hostFunctions = [] }),
      ("a function before the first", { $0.steps[1].kind = .hostCall(HostFunctionID(-1)) }),
      ("several tiles", { $0.steps[1].tileCount = 2 }),
      ("a step that it does not wait for", { $0.steps[1].dependencies = [] }),
      ("two functions of one name", { $0.hostFunctions += $0.hostFunctions }),
      ("a function without a name", { $0.hostFunctions[0].name = "" }),
      ("an operand larger than its buffer", { $0.hostFunctions[0].operands[0].byteCount = 17 }),
      ("an operand less than none", { $0.hostFunctions[0].operands[0].byteCount = -1 }),
      ("an input that is written", { $0.steps[1].buffers = [BufferID(1), BufferID(0)] }),
      ("operands too few", { $0.steps[1].buffers.removeLast() }),
    ]
    for (what, change) in changes {
      var program = Self.hostProgram()
      change(&program)
      #expect(throws: DLCError.self, "\(what)") { try program.verify(codeBytes: 16) }
    }
  }

  @Test func damageIsFound() {
    let changes: [(String, (inout Program) -> Void)] = [
      ("a buffer outside of the arena", { $0.buffers[1].place = .arena(64) }),
      ("a step that waits for a later one", { $0.steps[0].dependencies = [StepID(1)] }),
      ("a buffer that is not there", { $0.steps[1].buffers[0] = BufferID(9) }),
      ("an operand larger than its buffer", { $0.buffers[1].shape = [3] }),
      ("steps that are not there", { $0.instructions = [.run(0..<3)] }),
    ]
    for (what, change) in changes {
      var program = Self.program()
      change(&program)
      #expect(throws: DLCError.self, "\(what)") { try program.verify(codeBytes: 16) }
    }
  }
}
