import DLCGraph
import DLCReference
import DLCTensor
import DLCTestSupport
import Testing

/// What holds for every operator, on the uses that its definition lists. Compiled code is compared with the
/// interpreter in DLCCompilerTests, derivatives with differences in DLCAutodiffTests.
enum OperatorSamples {
  static func check<O: Operator>(_ type: O.Type) throws {
    for sample in type.samples {
      #expect(sample.operation.definition is O)
      #expect(O.mnemonics.contains(sample.operation.mnemonic))
      let module = try Differential.module(sample)
      // Text and attributes keep everything.
      let read = try Module(parsing: module.text)
      #expect(read == module && read.text == module.text, "\(module.text)")
      let again = try DLCGraph.Operation(
        mnemonic: sample.operation.mnemonic, attributes: sample.operation.attributes,
        regions: sample.operation.regions)
      #expect(again == sample.operation)
      // The interpreter gives what the type rule says.
      let types = try sample.operation.definition.infer(sample.operands)
      let arrays = Differential.arrays(sample.operands, range: sample.range, seed: 7)
      let inputs = Dictionary(
        uniqueKeysWithValues: arrays.enumerated().map { ("x\($0.offset)", $0.element) })
      let results = try Interpreter().run(
        module, function: module.functions[0], inputs: inputs, states: [:], dimensions: [:]
      ).outputs
      #expect(results.map(\.value.type) == types)
      // Work is counted, and never negative.
      let graph = module.functions[0].graph
      let work = graph.work
      #expect(work.flops >= 0 && work.instructions >= 0 && work.bytes >= 0)
    }
  }
}
