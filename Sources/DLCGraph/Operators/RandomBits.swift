package import DLCTensor

/// Philox 4x32-10 words, one per element in row-major order, from a key and a counter (uint64
/// scalars). Results depend on nothing else.
package struct RandomBits: Operator {
  package var shape: [Size]
  package init(_ shape: [Size]) { self.shape = shape }

  package static let mnemonics = ["random_bits"]
  package var mnemonic: String { "random_bits" }
  package var attributes: [Attribute] { [Attribute("shape", .dimensions(shape))] }
  package init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError) {
    shape = try attributes.dimensions("shape")
  }

  package func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType] {
    try requireCount(operands, 2)
    for type in operands {
      try require(type == TensorType(.uint64), "random-key", "key and counter are uint64 scalars")
    }
    return [TensorType(.uint32, shape)]
  }

  package func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray] {
    var out = ReferenceArray(.uint32, results[0].sizes)
    let key = UInt64(bitPattern: operands[0].integers[0])
    let counter = UInt64(bitPattern: operands[1].integers[0])
    for index in 0..<out.count {
      out.integers[index] = Int64(Philox.word(index: UInt64(index), key: key, counter: counter))
    }
    return [out]
  }

  package var derivative: Derivative { .zero }

  package func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure {
    .randomBits
  }

  package static var samples: [OperatorSample] {
    [
      OperatorSample(.randomBits(RandomBits([37])), [TensorType(.uint64), TensorType(.uint64)]),
      OperatorSample(.randomBits(RandomBits([3, 7])), [TensorType(.uint64), TensorType(.uint64)]),
    ]
  }
}
