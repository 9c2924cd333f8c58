import DLCTensor
import Testing

@Suite struct CountedTests {
  @Test func oneThingIsNotSeveral() {
    #expect(counted(0, "input") == "0 inputs" && counted(1, "input") == "1 input")
    #expect(counted(2, "input") == "2 inputs" && counted(-1, "step") == "-1 steps")
    #expect(counted(1, "axis", "axes") == "1 axis" && counted(3, "axis", "axes") == "3 axes")
  }
}
