import DLCTensor
import Testing

@testable import DLCData

@Suite struct CSVTests {
  let folder = Folder()

  func read(_ text: String, _ change: (inout CSVTable.Options) -> Void = { _ in }) throws
    -> [String: Tensor]
  {
    var options = CSVTable.Options()
    change(&options)
    let dataset = try CSVTable.dataset(try folder.put("a.csv", text), options)
    _ = try dataset.write("\(folder.path)/out", .whole)
    return try folder.arrays("out.npz")
  }

  @Test func columnsBecomeRows() throws {
    let arrays = try read("\u{feff}a,b,c\n1,2,3\r\n -4.5 ,\"5e1\",.25\n\n")
    #expect(arrays.keys.sorted() == ["x"])
    #expect(arrays["x"] == Tensor([2, 3], [1, 2, 3, -4.5, 50, 0.25] as [Float]))
  }

  @Test func labelsAreNumberedInTheOrderOfTheirNames() throws {
    let text = "size,kind\n1,\"dog, large\"\n2,cat\n3,\"say \"\"hi\"\"\"\n4,cat\n"
    let arrays = try read(text) { $0.label = "kind" }
    #expect(arrays["x"] == Tensor([4, 1], [1, 2, 3, 4] as [Float]))
    #expect(arrays["y"] == Tensor([4], [Int32(1), 0, 2, 0]))
    #expect(try ClassNames.names(arrays["classes"]!) == ["cat", "dog, large", "say \"hi\""])
  }

  @Test func labelsThatAreNumbersStay() throws {
    let arrays = try read("y,a\n7,1\n-3,2\n") { $0.label = "y" }
    #expect(arrays["y"] == Tensor([2], [Int32(7), -3]))
    #expect(arrays["classes"] == nil)
  }

  @Test func targetsAndSeparateColumns() throws {
    let text = "a;b;place;t\n1;2;north;0.5\n3;4;east;1.5\n"
    let arrays = try read(text) {
      $0.delimiter = UInt8(ascii: ";")
      $0.target = "t"
      $0.categories = ["place"]
      $0.dropped = ["b"]
      $0.isSeparate = true
    }
    #expect(arrays.keys.sorted() == ["a", "place", "place_classes", "y"])
    #expect(arrays["a"] == Tensor([2], [1, 3] as [Float]))
    #expect(arrays["place"] == Tensor([2], [Int32(1), 0]))
    #expect(arrays["y"] == Tensor([2], [0.5, 1.5] as [Float]))
    #expect(try ClassNames.names(arrays["place_classes"]!) == ["east", "north"])
    let chosen = try read(text) {
      $0.delimiter = UInt8(ascii: ";")
      $0.columns = ["t", "a"]
    }
    #expect(chosen["x"] == Tensor([2, 2], [0.5, 1, 1.5, 3] as [Float]))
  }

  @Test func withoutAHeader() throws {
    let arrays = try read("1,2\n3,4") {
      $0.hasHeader = false
      $0.label = "2"
    }
    #expect(arrays["x"] == Tensor([2, 1], [1, 3] as [Float]))
    #expect(arrays["y"] == Tensor([2], [Int32(2), 4]))
  }

  @Test func mistakesNameLineAndColumn() throws {
    let cases: [(String, String)] = [
      ("", "the file is empty"), ("a,b\n", "a header and no rows"), ("\n\n", "the file is empty"),
      (
        "a,b\n1,2\n3,x\n",
        "'x' is no number that float32 holds [\(folder.path)/a.csv, line 3, column 'b']"
      ),
      ("a,b\n1,2\n3,\n", "a number is missing [\(folder.path)/a.csv, line 3, column 'b']"),
      ("a,b\n1,nan\n", "line 2, column 'b'"), ("a,b\n1,inf\n", "line 2, column 'b'"),
      ("a,b\n1,0x10\n", "line 2, column 'b'"), ("a,b\n1,1e99\n", "line 2, column 'b'"),
      ("a,b\n1,2\n\n3\n", "the line has 1 field, the header 2 [\(folder.path)/a.csv, line 4]"),
      ("a,b\n\"1\n", "a quote is not closed [\(folder.path)/a.csv, line 2, column 1]"),
      ("a,b\n\"1\" x,2\n", "something follows a closed quote"),
      ("1,2\n3,4\n", "--no-header"), ("a,a\n1,2\n", "two columns are called 'a'"),
      ("a,\n1,2\n", "column 2 has no name"), ("a\n\0\n", "zero byte"),
    ]
    for (text, message) in cases {
      let found = problem { _ = try read(text) }
      #expect(found.contains(message), "\(found)")
    }
    #expect(
      problem {
        _ = try read("a,b\n\"x\ny\",1\n") {
          $0.label = "a"
          $0.target = nil
        }
      } == "no error")
    // A line end inside of quotes counts.
    #expect(
      problem { _ = try read("a,b\n\"x\ny\",1\nz,q") { $0.label = "a" } }.contains(
        "line 4, column 'b'"))
    #expect(
      problem { _ = try read("size,b\n1,2") { $0.label = "sise" } }.contains("did you mean 'size'"))
    #expect(
      problem {
        _ = try read("a,b\n1,2") {
          $0.label = "a"
          $0.dropped = ["b"]
        }
      }.contains("no column is left"))
    #expect(
      problem { _ = try read("a,b\n1,2\n3000000000,1") { $0.label = "a" } }.contains(
        "the class 3000000000 is no int32"))
    let broken = try folder.put("b.csv", Array("a\n".utf8) + [0xff, 10])
    #expect(problem { _ = try CSVTable.dataset(broken, .init()) }.contains("b.csv, line 2"))
  }

  /// Pieces of what may be special, in any order.
  @Test func nothingTraps() throws {
    let pieces = ["a", ",", "\"", "\n", "\r", " ", "1", "-", "e9", "\u{feff}", "\t", "é"]
    for round in 0..<400 {
      let order = Split.permutation(24, seed: UInt64(round))
      let text = "a,b\n" + order.map { pieces[$0 % pieces.count] }.joined()
      _ = problem { _ = try read(text) { $0.label = "a" } }
    }
  }
}
