"""Word lists. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words whose full stop ends no sentence.
ABBREVIATIONS: Final = _words("""
    approx cf dept dr e.g ed eds eq fig figs gen i.e jr mr mrs ms nos pp prof ref refs resp rev sec st vol vs
""")

#: Words that say nothing about what a text is about.
STOP_WORDS: Final = _words("""
    a about above according actually after again against all almost alone along already also although always am among
    an and another any anybody anyone anything are aren't around as at away back be became because become been before
    behind being below between both but by call called can can't cannot case cases certain clearly come consider
    containing could couldn't currently describe described did didn't different do does doesn't doing don't done down
    during each either else enough etc even ever every everyone everything example examples except far few first follow
    followed following follows for form from full further gave general get give given gives go good got had hadn't has
    hasn't have haven't having he hence her here hers herself him himself his how however if ii in including indeed
    instead into is isn't it its itself just keep kind know known last later least less let like likewise long made main
    make makes making many may maybe me mean means meant might mine more moreover most mostly much must my myself namely
    need needed needs neither never next no nobody none nor not note nothing now of off often on once one only onto or
    other others otherwise our ours ourselves out over own particular particularly per perhaps please possible possibly
    provide provided provides put quite rather really regarding respectively right said same say says see seem seems
    seen several shall she should shouldn't similar similarly simply since so some somebody someone something
    sometimes somewhere soon specified still such take taken tell than that that's the their theirs them themselves
    then there thereby therefore these they thing things third this those though three through throughout thus to
    together too toward towards tried true two typically under unless unlikely until up upon us use used useful uses
    using usual usually various very via want wants was wasn't way ways we well were weren't what whatever when whenever
    where whereas whether which while who whole whom whose why will with within without won't would wouldn't yes yet
    you your yours yourself false new section version changed self args foo bar perform performs performed request
    requested inside indicate indicates look looks commonly written named ask asked relevant yields goes
""")

#: Words that speak for a subject. The first seven are those of a language reference.
SUBJECTS: Final[Mapping[str, frozenset[str]]] = {
    "control flow": _words("""
        loop iteration suite clause statement break continue else while condition branch block match pattern guard pass
        return handler with target_list simple_stmt
    """),
    "expressions": _words("""
        expression operator operand operation evaluate precedence arithmetic bitwise comparison conversion binary unary
        literal integer float complex number numeric shift boolean truth power slice slicing subscription
    """),
    "data model": _words("""
        object method attribute instance metaclass descriptor mutable immutable identity invoked protocol
        implement override subclass built-in type container mapping sequence dictionary dict list tuple set
        collection hash key
    """),
    "functions and classes": _words("""
        function class parameter argument decorator call callable lambda definition annotation default positional
        keyword signature closure coroutine generator yield await async
    """),
    "text": _words("""
        string character unicode byte format text encode encoding escape substring whitespace separator ascii digit
        alphabetic uppercase lowercase titlecased prefix suffix codec
    """),
    "names and modules": _words("""
        name module import package namespace scope binding identifier global nonlocal builtin loader finder path
        variable keyword reserved __init__ __name__ lexical
    """),
    "errors and debugging": _words("""
        exception error raise traceback assertion debugger breakpoint except finally handler warning debug pdb stack
        frame cause caught step
    """),
    "science": _words("""
        experiment hypothesis theory measurement sample species cell energy protein clinical patient disease study
        physics chemistry biology laboratory observation temperature
    """),
    "business": _words("""
        market customer revenue profit price sale company product invoice contract budget investment shareholder bank
        payment supplier quarter growth tax order
    """),
    "law and policy": _words("""
        law court judge section act license copyright liability warranty party agreement clause regulation government
        policy right obligation damage permission redistribute
    """),
    "people": _words("""
        woman man child family friend mother father life love heart home hand eye voice night house face old young
    """),
    "software": _words("""
        software program code server database test install command file user configuration api repository library
        interface data deploy queue worker task version
    """),
}
UNKNOWN_SUBJECT: Final = "other"
