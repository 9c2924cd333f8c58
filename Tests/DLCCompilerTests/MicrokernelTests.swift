import DLCCodegen
import DLCCompiler
import DLCKernel
import DLCTensor
import Testing

/// The loops of register tiles, as the machine sees them.
@Suite struct MicrokernelTests {
  /// Sums stay in registers: a loop that touches the stack for every step of the depth takes several times as long.
  @Test(arguments: ["native", "x86-64-v2", "x86-64-v3", "x86-64-v4"])
  func loopsDoNotTouchTheStack(_ name: String) throws {
    let host = try LLVMLibrary().host
    guard name == "native" || host.architecture == .x86_64 else { return }
    var options = CompilerOptions()
    options.target = name
    let target = try options.resolvedTarget()
    var modules: [(name: String, text: String)] = []
    for type in [DataType.float32, .float64] {
      for rows in 1...target.tile.rows {
        for vectors in 1...target.tile(rows: rows).vectors {
          let forms: [(isMasked: Bool, layout: Microkernel.Layout)] =
            Microkernel.Layout.allCases.map { (false, $0) } + [(true, .rows), (true, .strips)]
          for (isMasked, layout) in forms {
            for finish in [nil, Self.finish(type)] {
              let kernel = Microkernel(
                types: ContractTypes(type), rows: rows, vectors: vectors, isMasked: isMasked,
                layout: layout, finish: finish)
              modules.append((kernel.name(target), kernel.emit(target)))
            }
          }
        }
      }
    }
    let texts = try CodeGenerator(target).compile(modules, .assembly, threads: 2)
    for (module, bytes) in zip(modules, texts) {
      let loops = Self.loops(String(decoding: bytes, as: UTF8.self))
      #expect(!loops.isEmpty || target.architecture != .x86_64, "\(module.name)")
      for loop in loops {
        let spilled = loop.filter { $0.contains("(%rsp") || $0.contains("[sp") }
        #expect(spilled.isEmpty, "\(module.name): \(spilled.prefix(3))")
      }
    }
  }

  /// A bias and a residual, in lines.
  private static func finish(_ type: DataType) -> FinishProgram {
    var finish = FinishProgram()
    finish.operands = [
      FinishProgram.Operand(type, .column), FinishProgram.Operand(type, .element),
      FinishProgram.Operand(type, .linedElement),
    ]
    finish.steps = [
      .load(0), .apply(.binary(.add), type, [0, 1]), .load(1), .apply(.binary(.add), type, [2, 3]),
    ]
    finish.stores = [FinishProgram.Store(operand: 2, value: 4)]
    return finish
  }

  /// The instructions of each innermost loop: from a label to a jump back to it.
  private static func loops(_ text: String) -> [[Substring]] {
    var result: [[Substring]] = []
    var (label, body): (Substring?, [Substring]) = (nil, [])
    for line in text.split(separator: "\n") {
      let words = line.split(whereSeparator: \.isWhitespace)
      if let first = words.first, first.hasPrefix(".LBB"), first.hasSuffix(":") {
        (label, body) = (first.dropLast(), [])
      } else if let name = label, words.count == 2, words[1] == name {
        result.append(body)
        label = nil
      } else {
        body.append(line)
      }
    }
    return result
  }
}
