import DLCGraph
import DLCPasses
import DLCTensor
import Testing

@Suite struct MaterializeOperandsTests {
  @Test func viewsAreCopiedForLoops() throws {
    let before = try PassCheck.graph { g in
      let x = g.input("x", .float64, [2, 4])
      let turned = g.transpose(x, [1, 0])
      let (carried, _) = g.scan(
        carried: [g.constant(0, .float64, [2])], inputs: [turned]
      ) { g, c, s in ([c[0] + s[0]], []) }
      g.output("y", carried[0])
    }
    let (after, counts) = try PassCheck.run(MaterializeOperands(), before)
    let loop = try #require(after.nodes.first { !$0.operation.regions.isEmpty })
    for operand in loop.operands {
      guard let node = after.definition(operand) else { continue }
      switch node.operation {
      case .convert, .constant: break
      default: Issue.record("\(node.operation.mnemonic) is given to a loop")
      }
    }
    #expect(counts["materialize"] == 2)
  }
}
