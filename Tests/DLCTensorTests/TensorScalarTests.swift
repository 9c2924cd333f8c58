import DLCTensor
import Testing

/// Tensors from Swift's numbers and back.
@Suite struct TensorScalarTests {
  @Test func nestedArrays() {
    let a = Tensor([[1, 2, 3], [4, 5, 6]])
    #expect(a.dataType == .int64 && a.shape == [2, 3] && a.integers == [1, 2, 3, 4, 5, 6])
    let b = Tensor([[[1.5], [2.5]]], .float32)
    #expect(b.dataType == .float32 && b.shape == [1, 2, 1] && b.doubles == [1.5, 2.5])
    #expect(Tensor([[1.5, 2.5]], .int32).integers == [2, 3])
    #expect(Tensor([[true], [false]]).dataType == .bool)
    #expect(Tensor([[1, 2], [3]]).problem?.message.contains("different lengths") == true)
    #expect(Tensor([[Int]]()).shape == [0])
    #expect(Tensor([1, 300, -5], .uint8).integers == [1, 44, 251])
  }

  @Test func everyType() {
    func check<T: TensorScalar & Equatable>(_ values: [T]) {
      let tensor = Tensor([values.count], values)
      #expect(tensor.dataType == T.dataType && tensor.scalars(T.self) == values)
    }
    check([1, -2] as [Float])
    check([1, -2] as [Double])
    check([1, -2] as [Int])
    check([1, -2] as [Int8])
    check([1, -2] as [Int16])
    check([1, -2] as [Int32])
    check([1, .min] as [Int64])
    check([1, 255] as [UInt8])
    check([1, 65535] as [UInt16])
    check([1, .max] as [UInt32])
    check([1, .max] as [UInt64])
    check([true, false])
    #expect(Tensor([2], [1.6, -.infinity]).scalars(Int8.self) == [2, -128])
    #expect(Tensor([1], [Double.nan]).scalars(UInt8.self) == [0])
    #expect(Tensor([2], [1, 2]).scalars(Float.self) == [1, 2])
  }

  @Test func parts() {
    let a = Tensor([[1, 2, 3], [4, 5, 6]])
    #expect(a[1].shape == [3] && a[1].integers == [4, 5, 6])
    #expect(a[1, -1].scalar == 6 && a[0, 0].shape == [])
    #expect(a[2].problem?.message.contains("no position 2") == true)
    #expect(a[0, 0, 0].problem != nil && a[0, 3].scalar.isNaN && a.scalar.isNaN)
    #expect(a[].integers == a.integers)
  }

  @Test func descriptions() {
    #expect("\(Tensor([[1.5, 2], [3, 4]], .float32))" == "float32[2, 2] [[1.5, 2.0], [3.0, 4.0]]")
    #expect("\(Tensor([], [true]))" == "bool[] 1")
    let long = Tensor([100], (0..<100).map { Int32($0) })
    #expect("\(long)" == "int32[100] [0, 1, 2, ..., 97, 98, 99]")
    #expect("\(Tensor([[1], [2, 3]]))".contains("different lengths"))
  }
}
