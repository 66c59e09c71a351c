# Made by `python -m counterpoint.balance.documentation`.
from counterpoint.balance.methods.aligned_mtl import AlignedMTL as AlignedMTL
from counterpoint.balance.methods.cagrad import CAGrad as CAGrad
from counterpoint.balance.methods.chain import Chain as Chain
from counterpoint.balance.methods.config import ConFIG as ConFIG
from counterpoint.balance.methods.db_mtl import DBMTL as DBMTL
from counterpoint.balance.methods.dwa import DWA as DWA
from counterpoint.balance.methods.equal import Equal as Equal
from counterpoint.balance.methods.fairgrad import FairGrad as FairGrad
from counterpoint.balance.methods.famo import FAMO as FAMO
from counterpoint.balance.methods.fixed import Fixed as Fixed
from counterpoint.balance.methods.geometric_mean import GeometricMean as GeometricMean
from counterpoint.balance.methods.grad_similarity import GradSimilarity as GradSimilarity
from counterpoint.balance.methods.grad_surgery import GradSurgery as GradSurgery
from counterpoint.balance.methods.gradcraft import GradCraft as GradCraft
from counterpoint.balance.methods.graddrop import GradDrop as GradDrop
from counterpoint.balance.methods.gradnorm import GradNorm as GradNorm
from counterpoint.balance.methods.gradvac import GradVac as GradVac
from counterpoint.balance.methods.imtl import IMTL as IMTL
from counterpoint.balance.methods.metabalance import MetaBalance as MetaBalance
from counterpoint.balance.methods.mgda import MGDA as MGDA
from counterpoint.balance.methods.mtadam import MTAdam as MTAdam
from counterpoint.balance.methods.mtrec import MTRec as MTRec
from counterpoint.balance.methods.nash_mtl import NashMTL as NashMTL
from counterpoint.balance.methods.ol_aux import OLAux as OLAux
from counterpoint.balance.methods.pcd import PCD as PCD
from counterpoint.balance.methods.pcgrad import PCGrad as PCGrad
from counterpoint.balance.methods.pcgrad import PCGradPlus as PCGradPlus
from counterpoint.balance.methods.random_loss_weighting import RandomLossWeighting as RandomLossWeighting
from counterpoint.balance.methods.single import Single as Single
from counterpoint.balance.methods.stch import STCH as STCH
from counterpoint.balance.methods.uncertainty import Uncertainty as Uncertainty
from counterpoint.balance.methods.upgrad import UPGrad as UPGrad

__all__ = [
    "DBMTL",
    "DWA",
    "FAMO",
    "IMTL",
    "MGDA",
    "PCD",
    "STCH",
    "AlignedMTL",
    "CAGrad",
    "Chain",
    "ConFIG",
    "Equal",
    "FairGrad",
    "Fixed",
    "GeometricMean",
    "GradCraft",
    "GradDrop",
    "GradNorm",
    "GradSimilarity",
    "GradSurgery",
    "GradVac",
    "MTAdam",
    "MTRec",
    "MetaBalance",
    "NashMTL",
    "OLAux",
    "PCGrad",
    "PCGradPlus",
    "RandomLossWeighting",
    "Single",
    "UPGrad",
    "Uncertainty",
]
